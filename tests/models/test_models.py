"""Values, specs and parsed output, without any wire."""

from __future__ import annotations

import pickle
from decimal import Decimal
from typing import Any

import attrs
import pytest

from aiofluence import (
    BareMetalSpec,
    ContainerSpec,
    ContainerUpdate,
    DefaultImage,
    Environment,
    Event,
    Interface,
    Kind,
    LogLine,
    Offer,
    Port,
    PortProtocol,
    Pricing,
    RegistryCredentials,
    Size,
    SpecError,
    Status,
    VMSpec,
    unique_name,
)
from aiofluence.http.codec import check
from aiofluence.models.specs import Spec
from aiofluence.models.values import GpuModel

from ..harness import IMAGE, SSH_KEY

GOOD: dict[str, Any] = {"name": "exp-1", "plan_id": "p-1", "image": IMAGE, "expose": [22]}
MACHINE: dict[str, Any] = {"name": "vm-1", "plan_id": "p-1", "ssh_key": SSH_KEY, "os_image": "ubuntu-22.04"}


def test_sizes_compare_across_units() -> None:
    assert Size.parse("141Gi").gib == 141
    assert Size.parse("80 GB").gb == 80
    assert Size.of(1, "Ti") == Size.of(1024, "gi")
    assert Size.parse("0.5Ti") < Size.parse("600GiB")
    assert str(Size.parse("80Gi")) == "80 GiB"


@pytest.mark.parametrize("text", ["", "Gi", "12 parsec", "-3Gi", "1e3Gi"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        Size.parse(text)


def test_an_open_enum_keeps_what_it_does_not_know() -> None:
    status = Status("REBOOTING")
    assert status == "REBOOTING"
    assert not status.known
    assert not status.final
    assert pickle.loads(pickle.dumps(status)) == status
    assert {status: 1}["REBOOTING"] == 1  # type: ignore[index]  # equal to its text, so found by it


def test_spellings_of_one_value_are_one_member() -> None:
    assert Interface("sxm") is Interface.SXM is Interface("SXM")
    assert Status("Initiated") is Status.INITIALIZED


@pytest.mark.parametrize(
    ("written", "ports"),
    [
        (22, [Port(22)]),
        ("22", [Port(22)]),
        ("80/http", [Port(80, PortProtocol.HTTP)]),
        ("53/UDP", [Port(53, PortProtocol.UDP)]),
        ("5000-5002", [Port(5000), Port(5001), Port(5002)]),
        ("5000-5001/udp", [Port(5000, PortProtocol.UDP), Port(5001, PortProtocol.UDP)]),
        (Port(443), [Port(443)]),
        ([22, "80/http"], [Port(22), Port(80, PortProtocol.HTTP)]),
    ],
)
def test_ports_are_written_as_people_write_them(written: Any, ports: list[Port]) -> None:
    expose = written if isinstance(written, list) else [written]
    spec = ContainerSpec(**(GOOD | {"expose": expose}))
    assert spec.expose == tuple(ports)
    assert spec.problems() == []


def test_one_port_needs_no_list() -> None:
    assert ContainerSpec(**(GOOD | {"expose": "80/http"})).expose == (Port(80, PortProtocol.HTTP),)


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("name", "", "name"),
        ("name", "a" * 26, "name"),
        ("name", "Exp", "name"),
        ("name", "-a", "name"),
        ("name", "a-", "name"),
        ("name", None, "name"),
        ("plan_id", "../plans", "plan_id"),
        ("image", "", "image"),
        ("image", "Ubuntu", "image"),
        ("image", "a" * 256, "image"),
        ("expose", [], "expose"),
        ("expose", list(range(1, 12)), "expose"),
        ("expose", [0], "expose[0]"),
        ("expose", [22, 65536], "expose[1]"),
        ("expose", ["8080/http"], "expose[0]"),
        ("expose", ["22/sctp"], "expose[0]"),
        ("expose", ["ssh"], "expose[0]"),
        ("expose", ["9-5"], "expose[0]"),
        ("expose", ["1-5000"], "expose[0]"),
        ("expose", [True], "expose[0]"),
        ("expose", None, "expose[0]"),
        ("environment", {f"V{number}": "" for number in range(65)}, "environment"),
        ("environment", {"lower": ""}, "environment"),
        ("environment", {"1A": ""}, "environment"),
        ("environment", {"A": 1}, "environment"),
        ("environment", ["A=1"], "environment"),
        ("startup_command", "x" * 2049, "startup_command"),
        ("credentials", RegistryCredentials("quay.io", "me", "secret"), "credentials.host"),
        ("credentials", RegistryCredentials("ghcr.io", "", ""), "credentials.username"),
        ("credentials", {"host": "ghcr.io"}, "credentials"),
        ("location", "Poland", "location"),
        ("ssh_key", "", "ssh_key"),
        ("ssh_key", "-----BEGIN OPENSSH PRIVATE KEY-----", "ssh_key"),
    ],
)
def test_each_rule_of_a_container_is_checked(field: str, value: Any, problem: str) -> None:
    problems = ContainerSpec(**(GOOD | {field: value})).problems()
    assert problems
    assert all(found.startswith(problem.partition("[")[0].partition(".")[0]) for found in problems)
    assert problems[0].startswith(problem)


def test_limits_themselves_are_allowed() -> None:
    spec = ContainerSpec(
        name="a" * 25,
        plan_id="p",
        image="a" * 255,
        expose=range(1, 11),
        environment={f"V{number}": "" for number in range(64)},
        startup_command="x" * 2048,
        credentials=RegistryCredentials("ghcr.io", "me", "secret"),
        location="pl",
        ssh_key=SSH_KEY,
    )
    assert spec.problems() == []
    assert spec.location == "PL"


def test_the_variable_is_reserved_beside_a_key() -> None:
    with_variable = GOOD | {"environment": {"SSH_PUBKEY": SSH_KEY}}
    assert ContainerSpec(**with_variable).problems() == []
    (problem,) = ContainerSpec(**with_variable, ssh_key=SSH_KEY).problems()
    assert "SSH_PUBKEY" in problem


def test_a_private_key_is_never_quoted() -> None:
    spec = ContainerSpec(**GOOD, ssh_key="-----BEGIN OPENSSH PRIVATE KEY----- c2VjcmV0")
    assert "c2VjcmV0" not in repr(spec) + " ".join(spec.problems())


BLOB = SSH_KEY.split()[1]


@pytest.mark.parametrize(
    "key",
    [
        SSH_KEY,
        f"  {SSH_KEY}\n",
        f"ssh-ed25519\t{BLOB}",
        f"{SSH_KEY} with a comment, 'quoted' and \u00fc",
        "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIJd9",
        "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABB",
    ],
)
def test_a_public_key_is_a_type_and_base64(key: str) -> None:
    assert ContainerSpec(**GOOD, ssh_key=key).problems() == []
    assert VMSpec(**MACHINE | {"ssh_key": key}).problems() == []
    assert ContainerUpdate(name="a", image="b", ssh_key=key).problems() == []


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("", "must be the text of a public key"),
        (b"ssh-ed25519 AAAA", "must be the text of a public key"),
        ("# A README\n\nRead me first.", "3 lines"),
        (f"{SSH_KEY}\n{SSH_KEY}", "2 lines"),
        ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----", "3 lines"),
        ("Read me first", "no public key"),
        ("~/.ssh/id_ed25519.pub", "path of a file"),
        ("/home/me/.ssh/id_ed25519", "path of a file"),
        ("keys/id_ed25519", "path of a file"),
        ("id.pub", "path of a file"),
        ("ssh-rsa", "one of them is missing"),
        (BLOB, "one of them is missing"),
        ("ssh-rsa secretsecret!", "not Base64"),
        ("ssh-ed25519 AAAAC3...", "not Base64"),
        ("ssh-ed25519 AAAA", "do not agree"),
        (f"ssh-rsa {BLOB}", "do not agree"),
        (f"ssh-ed2551 {BLOB}", "do not agree"),
        (f'from="10.0.0.1" {SSH_KEY}', "not Base64"),
        (f"{SSH_KEY} \ud800", "cannot be printed"),
        (f"{SSH_KEY} \x00", "cannot be printed"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n", "private key"),
        ("PuTTY-User-Key-File-3: ssh-ed25519\nc2VjcmV0", "private key"),
        ("b3BlbnNzaC1rZXktdjEAAAAABG5vbmUc2VjcmV0", "private key"),
    ],
)
def test_an_invalid_public_key_is_not_quoted(key: Any, told: str) -> None:
    for given in (
        ContainerUpdate(name="a", image="b", ssh_key=key),
        ContainerSpec(**GOOD, ssh_key=key),
        VMSpec(**MACHINE | {"ssh_key": key}),
    ):
        (problem,) = given.problems()
        assert problem.startswith("ssh_key: ")
        if key:
            assert told in problem
            assert "secret" not in problem
            assert "c2Vj" not in problem


@pytest.mark.parametrize("kind", [VMSpec, BareMetalSpec])
@pytest.mark.parametrize("field", ["name", "plan_id", "ssh_key"])
def test_each_field_of_a_machine_is_required(kind: type[VMSpec], field: str) -> None:
    assert kind(**MACHINE).problems() == []
    problems = kind(**(MACHINE | {field: ""})).problems()
    assert [problem.partition(":")[0] for problem in problems] == [field]


def test_reprs_show_no_secret() -> None:
    spec = ContainerSpec(
        **GOOD,
        environment={"HF_TOKEN": "canary-1"},
        credentials=RegistryCredentials("ghcr.io", "me", "canary-2"),
        ssh_key="ssh-ed25519 canary-3",
        startup_command="run --token canary-4",
    )
    update = ContainerUpdate(
        name="a", image="b", environment=spec.environment, credentials=spec.credentials, ssh_key=spec.ssh_key
    )
    machine = VMSpec(**(MACHINE | {"ssh_key": "ssh-ed25519 canary-5"}))
    shown = f"{spec} {spec!r} {update!r} {machine!r} {spec.environment}"
    assert "canary" not in shown
    assert "HF_TOKEN" in shown


def test_an_environment_is_an_immutable_dict() -> None:
    environment = Environment({"A": "1", "B": "2"})
    assert environment == {"A": "1", "B": "2"}
    assert dict(environment) == {"A": "1", "B": "2"}
    assert environment.without("A") == {"B": "2"}
    assert hash(environment) == hash(Environment({"B": "2", "A": "1"}))
    with pytest.raises(TypeError):
        environment["A"] = "3"  # type: ignore[index]


def test_unique_names_are_names_and_differ() -> None:
    names = {unique_name("train") for _ in range(100)}
    assert len(names) == 100
    for name in [*names, unique_name("a-very-long-prefix-that-is-cut"), unique_name("")]:
        assert ContainerSpec(**(GOOD | {"name": name})).problems() == []
    with pytest.raises(ValueError, match="a-z"):
        unique_name("Train!")


@pytest.mark.parametrize(
    ("raw", "pod", "text"),
    [
        ("[service-1-b4fcd99f7-f5xr5] step 1", "service-1-b4fcd99f7-f5xr5", "step 1"),
        ("[service-1-b4fcd99f7-f5xr5]: step 1", "service-1-b4fcd99f7-f5xr5", "step 1"),
        ("[pod]   indented", "pod", "  indented"),
        ("[pod]", "pod", ""),
        ("[pod] ", "pod", ""),
        ("[pod] two\nlines", "pod", "two\nlines"),
        ("no pod here", None, "no pod here"),
        ("[two words] text", None, "[two words] text"),
        ('["text"]', None, '["text"]'),
        ("", None, ""),
    ],
)
def test_log_lines_are_read_in_both_formats(raw: str, pod: str | None, text: str) -> None:
    assert LogLine.parse(raw) == LogLine(raw, pod, text)
    assert str(LogLine.parse(raw)) == raw


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        (
            "[service-1]: [Normal] [ScalingReplicaSet] [Deployment] Scaled up from 0 to 1",
            ("service-1", "Normal", "ScalingReplicaSet", "Deployment", "Scaled up from 0 to 1"),
        ),
        (
            "[service-1]: [Warning] [BackOff] Back-off pulling image [x]",
            ("service-1", "Warning", "BackOff", None, "Back-off pulling image [x]"),
        ),
        ("something else", (None, None, None, None, "something else")),
        ("[a]: [Odd] [Reason] text", (None, None, None, None, "[a]: [Odd] [Reason] text")),
    ],
)
def test_events_are_read_in_both_formats(raw: str, parts: tuple[str | None, ...]) -> None:
    event = Event.parse(raw)
    assert (event.object, event.type, event.reason, event.kind, event.message) == parts
    assert str(event) == raw


def test_an_image_becomes_a_spec() -> None:
    image = DefaultImage(
        slug="jupyter",
        name="Jupyter",
        image="fluence/jupyter:1",
        expose=(Port(80, PortProtocol.HTTP),),
        environment=Environment({"PORT": "80"}),
        startup_command="jupyter lab",
    )
    spec = image.to_spec(name="lab", plan_id="p-1", environment={**image.environment, "TOKEN": "t"})
    assert spec.problems() == []
    assert (spec.image, spec.expose, spec.startup_command) == (image.image, image.expose, "jupyter lab")
    assert spec.environment == {"PORT": "80", "TOKEN": "t"}
    with pytest.raises(TypeError, match="colour"):
        image.to_spec(name="lab", plan_id="p-1", colour="red")


def test_an_offer_becomes_the_spec_of_its_kind() -> None:
    offer = Offer(
        kind=Kind.VM,
        plan_id="o-1",
        name="l4",
        gpu_model=GpuModel("nvidia", "l4", Size.parse("24Gi")),
        gpu_count=1,
        vcpu=8,
        memory=Size.parse("32Gi"),
        storage=Size.parse("100Gi"),
        hourly=Decimal("0.5"),
        upfront=Decimal("1.5"),
        currency="USDC",
        locations=("PL",),
        os_options=("ubuntu-22.04", "debian-12"),
    )
    vm = offer.to_spec(name="a", ssh_key=SSH_KEY)
    assert vm == VMSpec(name="a", plan_id="o-1", ssh_key=SSH_KEY, os_image="ubuntu-22.04")
    metal = attrs.evolve(offer, kind=Kind.BAREMETAL).to_spec(name="a", ssh_key=SSH_KEY, os_image="debian-12")
    assert type(metal) is BareMetalSpec
    container = attrs.evolve(offer, kind=Kind.CONTAINER).to_spec(name="a", image="b", expose=[22])
    assert type(container) is ContainerSpec


def test_what_a_deploy_takes_at_once() -> None:
    assert Pricing(hour=Decimal("1.10"), upfront_hours=3).upfront == Decimal("3.30")


def test_many_of_one_spec_have_names_of_their_own() -> None:
    template = ContainerSpec(**GOOD | {"name": "exp-{i:03}"})
    specs = template.many(1001)
    assert [specs[0].name, specs[9].name, specs[-1].name] == ["exp-000", "exp-009", "exp-1000"]
    assert {attrs.evolve(spec, name="") for spec in specs} == {attrs.evolve(template, name="")}
    assert [spec.name for spec in VMSpec(**MACHINE | {"name": "vm{i}"}).many(2)] == ["vm0", "vm1"]
    check(specs)
    with pytest.raises(SpecError, match=r"exp-\{i:03\}"):  # a template is no name
        check([template])


@pytest.mark.parametrize("name", ["exp", "exp-{j}", "exp-{}", "exp-{i", "exp-{i.x}", 5, None])
def test_a_name_without_a_number_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match=r"exp-\{i:03\}"):
        ContainerSpec(**GOOD | {"name": name}).many(2)


def test_a_repeated_name_is_a_problem() -> None:
    specs: list[Spec] = [
        ContainerSpec(**GOOD),
        ContainerSpec(**GOOD | {"image": ""}),
        VMSpec(**MACHINE | {"name": "exp-1"}),  # another kind is another key
        ContainerSpec(**GOOD | {"name": "Bad"}),
    ]
    with pytest.raises(SpecError) as caught:
        check(specs)
    assert len(caught.value.problems) == 3
    assert caught.value.problems[-1] == "name: 'exp-1' is given to 2 specs of one kind"
