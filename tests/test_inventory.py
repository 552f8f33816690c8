"""Inventories: each format read back by what reads it, and text of the service that is no address."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import attrs
import pytest

from aiofluence import ForwardedPort, Network, Until
from aiofluence.cli.commands.show import InventoryFormat
from aiofluence.inventory import FORMATS, make_inventory, read_hosts
from aiofluence.models.instances import Container, Instance, Machine
from aiofluence.models.specs import Spec
from aiofluence.models.ssh import SshAccess, ssh_access
from aiofluence.simulator import Simulator

from .harness import VIRTUAL, baremetal_spec, container_spec, session_on, vm_spec

yaml: Any = importlib.import_module("yaml")


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL


@pytest.fixture(scope="module")
async def fleet() -> list[Instance]:
    """Return two containers, a VM and a bare-metal machine, all of them ready."""
    simulator = Simulator()
    specs: list[Spec] = [
        container_spec(simulator, "exp-0"),
        container_spec(simulator, "exp-1", expose=["80/http", 22]),
        vm_spec(simulator),
        baremetal_spec(simulator),
    ]
    async with session_on(simulator) as session:
        report = await session.deploy_all_and_wait(specs, until=Until.READY)
        return list(report.instances)


def machine(fleet: list[Instance], **changes: Any) -> Machine:
    found = next(one for one in fleet if isinstance(one, Machine))
    return attrs.evolve(found, **changes)


def container(fleet: list[Instance], **changes: Any) -> Container:
    found = next(one for one in fleet if isinstance(one, Container))
    return attrs.evolve(found, **changes)


def access(instance: Instance) -> SshAccess:
    found = ssh_access(instance)
    assert found is not None
    return found


async def test_the_command_line_offers_every_format() -> None:
    assert set(get_args(InventoryFormat)) == set(FORMATS)


def ssh_says(config: Path, host: str) -> list[str]:
    """The configuration that `ssh` uses for that host, one option per line."""
    command = ["ssh", "-G", "-F", str(config), host]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh")
async def test_ssh_reads_its_configuration(fleet: list[Instance], tmp_path: Path) -> None:
    made = make_inventory(fleet, "ssh", identity_file="~/my keys/id")
    assert made.notes == ()
    path = tmp_path / "config"
    path.write_text(made.text)
    for instance in fleet:
        said = ssh_says(path, instance.name)
        where = access(instance)
        assert {f"hostname {where.host}", f"port {where.port}", f"user {where.user}"} <= set(said)
        assert any(line.startswith("identityfile ") and line.endswith("/my keys/id") for line in said)


async def test_ansible(fleet: list[Instance]) -> None:
    groups = yaml.safe_load(make_inventory(fleet, "ansible").text)["fluence"]["children"]
    assert set(groups) == {"fluence_container", "fluence_vm", "fluence_baremetal"}
    assert set(groups["fluence_container"]["hosts"]) == {"exp-0", "exp-1"}
    for instance in fleet:
        facts = groups[f"fluence_{instance.kind}"]["hosts"][instance.name]
        where = access(instance)
        assert (facts["ansible_host"], facts["ansible_port"], facts["ansible_user"]) == (
            where.host,
            where.port,
            where.user,
        )
        assert facts["fluence_id"] == instance.id


async def test_dask_takes_the_largest_login_group(fleet: list[Instance]) -> None:
    machines = [one for one in fleet if isinstance(one, Machine)]
    first = container(fleet)
    made = make_inventory([first, *machines], "dask", user="ubuntu", identity_file="my key")
    assert made.text.split() == [access(one).host for one in machines]
    left_out, how = made.notes
    assert first.id in left_out
    assert how.endswith("--ssh-username ubuntu --ssh-port 22 --ssh-private-key 'my key'")


async def test_ray_has_a_head_and_workers(fleet: list[Instance]) -> None:
    made = make_inventory(fleet, "ray", user="ubuntu", identity_file="~/.ssh/id")
    cluster = yaml.safe_load(made.text)
    hosts = [access(one).host for one in fleet if isinstance(one, Machine)]
    assert cluster["provider"] == {"type": "local", "head_ip": hosts[0], "worker_ips": hosts[1:]}
    assert cluster["auth"] == {"ssh_user": "ubuntu", "ssh_private_key": "~/.ssh/id"}
    assert cluster["min_workers"] == cluster["max_workers"] == 1
    # Their port 22 is another one outside, which Ray cannot be told.
    assert [name for name in ("exp-0", "exp-1") if any(name in note for note in made.notes)] == [
        "exp-0",
        "exp-1",
    ]


async def test_ray_without_a_host_is_no_cluster(fleet: list[Instance]) -> None:
    made = make_inventory([container(fleet)], "ray")
    assert made.text == ""
    assert made.notes[-1] == "there is no host left for a Ray cluster"


async def test_skypilot_names_what_only_ssh_can_reach(fleet: list[Instance]) -> None:
    made = make_inventory(fleet, "skypilot", identity_file="~/.ssh/id")
    machines = [access(one) for one in fleet if isinstance(one, Machine)]
    assert yaml.safe_load(made.text) == {
        "fluence": {
            "hosts": [
                "exp-0",
                "exp-1",
                *({"ip": m.host, "user": m.user, "identity_file": "~/.ssh/id"} for m in machines),
            ]
        }
    }
    assert made.notes == ("~/.ssh/config must know exp-0, exp-1: see --format ssh",)


async def test_json(fleet: list[Instance]) -> None:
    hosts = json.loads(make_inventory(fleet, "json").text)
    assert [host["id"] for host in hosts] == [one.id for one in fleet]
    assert [host["port"] for host in hosts] == [access(one).port for one in fleet]
    assert hosts[0]["hourly"] == str(fleet[0].billing.hourly_usage)


@pytest.mark.parametrize("format", FORMATS)
async def test_what_cannot_be_reached_is_named(fleet: list[Instance], format: str) -> None:
    booting = machine(fleet, name="booting", ssh_connection=None)
    closed = container(fleet, name="closed", network=Network("h.example", (ForwardedPort(80, 31000),)))
    made = make_inventory([booting, closed], format)
    assert "booting" not in made.text
    assert "closed" not in made.text
    assert [note for note in made.notes if "left out" in note] == [
        f"{booting.ref} is left out: it has no address yet (ACTIVE)",
        f"{closed.ref} is left out: it exposes no port 22",
    ]


async def test_two_of_one_name_have_two_aliases(fleet: list[Instance]) -> None:
    pair = [machine(fleet, id="aaaaaaaaaaaa"), machine(fleet, id="bbbbbbbbbbbb")]
    hosts = json.loads(make_inventory(pair, "json").text)
    assert [host["alias"] for host in hosts] == ["vm-1-aaaaaaaa", "vm-1-bbbbbbbb"]


HOSTILE = [
    "ssh -oProxyCommand=evil@host",
    "ssh user@-oProxyCommand=evil",
    "ssh us\ner@host",
    'ssh "a b"@host;reboot',
    "ssh user@host$(reboot)",
    "",
    "ssh",
]


@pytest.mark.parametrize("line", HOSTILE)
async def test_service_text_becomes_no_option_or_line(fleet: list[Instance], line: str) -> None:
    found = ssh_access(machine(fleet, ssh_connection=line))
    assert found is None or found == SshAccess("er", "host")


async def test_a_domain_that_is_none_is_no_address(fleet: list[Instance]) -> None:
    for domain in ("-oProxyCommand=x", "a b", "a\nHost *", ""):
        network = Network(domain, (ForwardedPort(22, 31000),))
        assert ssh_access(container(fleet, network=network)) is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ssh ubuntu@203.0.113.7", SshAccess("ubuntu", "203.0.113.7")),
        ("ssh -p 2222 ubuntu@host.example", SshAccess("ubuntu", "host.example", 2222)),
        ("ssh ubuntu@[2001:db8::1] -p 2222", SshAccess("ubuntu", "2001:db8::1", 2222)),
    ],
)
async def test_ssh_lines(fleet: list[Instance], line: str, expected: SshAccess) -> None:
    assert ssh_access(machine(fleet, ssh_connection=line)) == expected


async def test_an_odd_name_stays_one_word(fleet: list[Instance]) -> None:
    (host,) = json.loads(make_inventory([machine(fleet, name="-a b\nHost *")], "json").text)
    assert host["alias"] == "a-b-Host--"


async def test_what_makes_no_sense_is_refused(fleet: list[Instance]) -> None:
    with pytest.raises(ValueError, match="format is ssh, ansible"):
        make_inventory(fleet, "chef")
    with pytest.raises(ValueError, match="not the name of a user"):
        make_inventory(fleet, "ssh", user="-l root")
    with pytest.raises(ValueError, match="not a path"):
        make_inventory(fleet, "ssh", identity_file='a"\nProxyCommand evil')


ODD_TEXTS = ["yes", "No", "null", "1.5", "0x10", "1e3", "2026-01-01", "a: b", "- a", "#c", "é", "~", "12:30"]


@pytest.mark.parametrize("text", ODD_TEXTS)
async def test_odd_texts_stay_texts_in_yaml(fleet: list[Instance], text: str) -> None:
    made = make_inventory([attrs.evolve(fleet[0], id=text)], "ansible")
    (group,) = yaml.safe_load(made.text)["fluence"]["children"].values()
    assert [host["fluence_id"] for host in group["hosts"].values()] == [text]


COLLIDING = [
    [("web", "0197a3c1-1111-7000-8000-000000000001"), ("web", "0197a3c1-2222-7000-8000-000000000002")],
    [("web", "aaaaaaaa-1"), ("WEB", "bbbbbbbb-2"), ("Web", "bbbbbbbb-3")],
    [("web", "aaaaaaaa-1"), ("web", "bbbbbbbb-2"), ("web-aaaaaaaa", "cccccccc-3")],
    [("a b", "aaaaaaaa-1"), ("a*b", "aaaaaaaa-2"), ("a-b", "aaaaaaaa-3")],
    [
        ("all", "a"),
        ("fluence", "b"),
        ("localhost", "c"),
        ("fluence_container", "d"),
        ("", "e"),
        ("\ud800", "f"),
    ],
    [("x" * 100_000, "a"), ("x" * 100_000 + "y", "b")],
    [("web", "A"), ("web", "a")],
    [("web", "*"), ("web", "?"), ("web-", "!")],
]


@pytest.mark.parametrize("given", COLLIDING)
@pytest.mark.parametrize("format", FORMATS)
async def test_hosts_with_similar_names_are_all_kept(
    fleet: list[Instance], given: list[tuple[str, str]], format: str
) -> None:
    network = Network("a.example", (ForwardedPort(22, 22),))
    many = [container(fleet, name=name, id=id, network=network) for name, id in given]
    hosts, missing = read_hosts(many)
    assert not missing
    aliases = [host.alias.lower() for host in hosts]
    assert len(set(aliases)) == len(given)
    assert not {"all", "fluence", "fluence_container", "localhost"} & set(aliases)
    assert all(re.fullmatch(r"[a-z0-9_][a-z0-9_.-]*", alias) and len(alias) < 160 for alias in aliases)
    text = make_inventory(many, format).text
    assert text.count("a.example") == len(given)
    if format == "ansible":
        assert len(yaml.safe_load(text)["fluence"]["children"]["fluence_container"]["hosts"]) == len(given)
    assert [host.alias for host in read_hosts(many[::-1])[0]][::-1] == [host.alias for host in hosts] or (
        given[0][1] in ("*", "A")
    )


async def test_one_instance_given_twice_is_one_host(fleet: list[Instance]) -> None:
    hosts, _ = read_hosts([*fleet, *fleet])
    assert [host.id for host in hosts] == [host.id for host in read_hosts(fleet)[0]]
