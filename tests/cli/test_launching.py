"""`deploy` and `launch`: what is deployed, what would be, what becomes of it, and what a file may say."""

from __future__ import annotations

import io
import re
import signal
from decimal import Decimal
from pathlib import Path

import pytest

from aiofluence import Eta, LaunchProgress, LaunchState
from aiofluence.cli.batch_file import Item
from aiofluence.cli.launch_table import LaunchTable
from aiofluence.simulator import Fault, Provisioning, Simulator

from ..harness import OTHER_IMAGE, container_spec, session_on
from .conftest import SSH, Cloud

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJd9 someone@example.org"
NEVER = Provisioning(median=1e6, sigma=0.0)

BATCH = """
[defaults]
image = "docker.io/fluencelabs/ubuntu-ssh-root:24.04"
expose = [22]
ssh_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJd9 someone@example.org"
max_hourly = 1

[[instance]]
name = "exp-{i:02}"
count = 3

[[instance]]
name = "vm-1"
kind = "vm"
"""


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    path = tmp_path / "batch.toml"
    path.write_text(BATCH)
    return path


# --- deploy -------------------------------------------------------------------------------------------------


def test_deploy(cloud: Cloud) -> None:
    flags = ("--gpu", "t4", *SSH, "-p", "80/http", "--location", "sg")
    done = cloud.ok("deploy", "exp-1", *flags)
    assert "Deploying container exp-1 on t4-16gi" in done.err
    assert "0.14 USDC an hour, 0.42 taken at once" in done.err
    assert "price      0.14 USDC an hour" in done.out
    shown = cloud.ok("deploy", "exp-2", *flags, "--json").json
    assert (shown["status"], shown["location"], shown["hourly"]) == ("ACTIVE", "SG", "0.14")
    assert cloud.live() == ["exp-1", "exp-2"]
    assert cloud.simulator.spent() == Decimal("0.28")


def test_deploy_on_a_terminal_has_an_estimate(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    cloud.time_scale = 20  # fewer redraws
    out = cloud.ok("deploy", "exp-1", "--gpu", "t4", *SSH).out
    assert re.search(r"1 provisioning, about \d+:\d\d min to go \(\d+:\d\d to \d+:\d\d\)", out)
    assert "price      0.14 USDC an hour" in out


def test_deploy_with_too_little_money(cloud: Cloud) -> None:
    cloud.simulator.set_balance("0.1")
    done = cloud.run("deploy", "exp-1", "--gpu", "t4", *SSH)
    assert (done.code, cloud.live()) == (1, [])
    assert done.err.splitlines()[-1].startswith("aiofluence: POST /gpu/instances/: Insufficient balance")


def test_deploy_by_plan_name_and_image_slug(cloud: Cloud) -> None:
    offer = cloud.simulator.catalog.find("container", "h100")
    shown = cloud.deploy(
        "exp-1", "--plan", offer.slug, "--image", "pytorch-2-6", "--ssh-key", SSH_KEY, "-e", "A=1"
    )
    assert shown["gpu"]["model"] == "h100"
    assert shown["image"].startswith("docker.io/pytorch/pytorch:2.6")
    assert "A" in shown["environment"]


def test_deploy_without_waiting_and_adopting(cloud: Cloud) -> None:
    ref = cloud.deploy("exp-1", "--no-wait")
    assert set(ref) == {"kind", "id", "name"}
    assert cloud.ok("ls", "--json").json[0]["status"] == "INITIALIZED"
    assert cloud.deploy("exp-1", "--adopt", "--no-wait") == ref
    flags = ("--plan", cloud.plan(), *SSH)
    done = cloud.ok("deploy", "exp-1", *flags, "--adopt", "--no-wait")
    assert done.out == f"container exp-1 ({ref['id']}) is deployed\n"
    assert "exp-1, unless it is live already, on t4" in done.err
    assert cloud.deploy("exp-1", "--adopt")["id"] == ref["id"]
    assert cloud.live() == ["exp-1"]
    assert len(cloud.simulator.instances()) == 1


def test_dry_run_costs_nothing(cloud: Cloud, batch: Path) -> None:
    told = cloud.deploy("exp-1", "--dry-run")
    assert (told["hourly"], told["upfront"]) == ("0.14", "0.42")
    done = cloud.ok("launch", batch, "--dry-run")
    assert "4 to deploy: 0.855 USDC an hour; 2.565 would be taken at once" in done.out
    assert "Nothing was deployed" in done.out
    told = cloud.ok("launch", batch, "--dry-run", "--json").json
    assert [row["name"] for row in told["instances"]] == ["exp-00", "exp-01", "exp-02", "vm-1"]
    assert Decimal(told["upfront"]) == sum(Decimal(row["upfront"]) for row in told["instances"])
    assert cloud.simulator.instances() == []
    assert cloud.simulator.ledger == ()


def test_a_late_deploy_is_ended_and_reported(cloud: Cloud) -> None:
    flags = ("--plan", cloud.plan(), *SSH, "--timeout", "20")
    done = cloud.run("deploy", "exp-1", *flags)
    assert done.code == 124
    assert "Ending exp-1. An instance that is not ACTIVE yet cannot be ended, so this waits." in done.err
    assert "exp-1 ended, none is left running." in done.err
    assert "aiofluence: container exp-1" in done.err
    assert cloud.live() == []
    assert cloud.simulator.reserved() == 0


def test_a_deploy_that_takes_too_long_may_be_kept(cloud: Cloud) -> None:
    flags = ("--plan", cloud.plan(), *SSH, "--timeout", "20", "--keep")
    done = cloud.run("deploy", "exp-1", *flags)
    assert done.code == 124
    assert "exp-1 is kept" in done.err
    assert cloud.live() == ["exp-1"]


def test_a_deploy_that_fails_brings_the_reason(cloud: Cloud) -> None:
    cloud.simulator.fail_next_provisioning()
    done = cloud.run("deploy", "exp-1", "--plan", cloud.plan(), *SSH)
    assert done.code == 1
    assert "container exp-1" in done.err
    assert "[Warning]" in done.err, "the cluster's events"
    assert cloud.simulator.spent() == 0


def test_unended_instances_are_named(cloud: Cloud) -> None:
    cloud.simulator.provisioning = NEVER
    done = cloud.run("deploy", "exp-1", "--plan", cloud.plan(), *SSH, "--timeout", "9")
    (live,) = cloud.simulator.live()
    assert done.code == 1
    assert f"aiofluence terminate --yes {live.id}" in done.err
    assert "none is left" not in done.err


@pytest.mark.parametrize("arguments", [["deploy", "exp-1"], ["launch"]])
def test_ctrl_c_leaves_nothing_running(cloud: Cloud, batch: Path, arguments: list[str]) -> None:
    cloud.during = lambda loop: loop.call_later(30, signal.raise_signal, signal.SIGINT)
    if arguments == ["launch"]:
        done = cloud.run("launch", batch)
    else:
        done = cloud.run(*arguments, "--plan", cloud.plan(), *SSH)
    assert done.code == 130
    assert "An instance that is not ACTIVE yet cannot be ended, so this waits." in done.err
    assert "A second Ctrl-C leaves at once" in done.err
    *_, last = done.err.splitlines()
    assert last.startswith("Interrupted: ")
    assert last.endswith(" ended, none is left running.")
    assert len(cloud.simulator.instances()) == (4 if arguments == ["launch"] else 1)
    assert cloud.live() == []
    assert cloud.simulator.reserved() == 0


def test_ctrl_c_with_keep_names_instances(cloud: Cloud, batch: Path) -> None:
    cloud.during = lambda loop: loop.call_later(30, signal.raise_signal, signal.SIGINT)
    done = cloud.run("launch", batch, "--keep")
    assert done.code == 130
    assert "Kept, and billing: container exp-00" in done.err
    assert sorted(cloud.live()) == ["exp-00", "exp-01", "exp-02", "vm-1"]


def test_ctrl_c_of_a_wait_ends_nothing(cloud: Cloud) -> None:
    cloud.deploy("exp-1", "--no-wait")
    cloud.during = lambda loop: loop.call_later(30, signal.raise_signal, signal.SIGINT)
    done = cloud.run("wait", "exp-1")
    assert (done.code, done.err) == (130, "Interrupted.\n")
    assert cloud.live() == ["exp-1"]


def test_ctrl_c_of_terminate_names_the_rest(cloud: Cloud) -> None:
    cloud.deploy("exp-1", "--no-wait")
    cloud.during = lambda loop: loop.call_later(30, signal.raise_signal, signal.SIGINT)
    # The signal is for the loop that ends it; another one has looked its id up before.
    done = cloud.run("terminate", "exp-1")
    assert done.code == 130
    assert "Not seen gone, and perhaps running: container exp-1" in done.err


# --- launch -------------------------------------------------------------------------------------------------


def test_launch(cloud: Cloud, batch: Path) -> None:
    done = cloud.ok("launch", batch, "--until", "ready")
    lines = [line.split() for line in done.out.splitlines()]
    assert [line[1:] for line in lines[:4]] == [[n, "queued"] for n in ("exp-00", "exp-01", "exp-02", "vm-1")]
    ready = {line[1]: " ".join(line[3:]) for line in lines if line[2:3] == ["active"]}
    assert sorted(ready) == ["exp-00", "exp-01", "exp-02", "vm-1"]
    for name, reached_at in ready.items():
        assert reached_at.startswith("ssh ")
        assert f"{name}: {reached_at}" in done.out, "the summary says the same"
    assert "4 active: 0.86 USDC an hour" in done.out
    assert done.out.count(": ssh ") == 4
    assert sorted(cloud.live()) == ["exp-00", "exp-01", "exp-02", "vm-1"]
    assert cloud.simulator.spent() == Decimal("0.855")


def test_what_has_no_ssh_is_reached_in_the_web(cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text('[[instance]]\nname = "lab"\ngpu = "t4"\nimage = "jupyter-lab"\n')
    told = cloud.ok("launch", tmp_path / "one.toml", "--until", "ready").out
    uri = cloud.ok("show", "lab", "--json").json["uri"]
    assert uri.startswith("http://")
    assert told.endswith(f"lab: {uri}\n")
    (tmp_path / "one.toml").write_text('[[instance]]\nname = "llm"\ngpu = "t4"\nimage = "ollama"\n')
    told = cloud.ok("launch", tmp_path / "one.toml", "--until", "ready").out
    port = cloud.ok("show", "llm", "--json").json["ports"][0]["external_port"]
    assert re.search(rf"^llm: provider-\d+\.gpu\.example:{port}\n", told, re.MULTILINE)


def test_a_launch_names_missing_addresses(cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text('[[instance]]\nname = "lab"\ngpu = "t4"\nimage = "jupyter-lab"\n')
    done = cloud.ok("launch", tmp_path / "one.toml")
    assert done.out.endswith("lab: no address yet\n")
    assert "1 without an address: --until ready waits for it." in done.err


def test_the_picture_of_a_launch(cloud: Cloud, batch: Path, tmp_path: Path) -> None:
    picture = tmp_path / "launch.svg"
    cloud.ok("launch", batch, "--timeline", picture)
    assert "Launch of 4: 4 ready" in picture.read_text(encoding="utf-8")


def test_no_deploy_without_a_place_for_a_picture(cloud: Cloud, batch: Path, tmp_path: Path) -> None:
    done = cloud.run("launch", batch, "--timeline", tmp_path / "nowhere" / "launch.svg")
    assert done.code == 2
    assert "nowhere is not a directory" in done.err
    assert cloud.live() == []


async def test_table_has_a_range_and_marks_late_ones() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        offer = await fluence.plans.cheapest(kind="container")
    specs = [container_spec(simulator, name) for name in ("exp-0", "exp-1")]
    table = LaunchTable([Item(spec, offer) for spec in specs])
    counts: dict[str, int] = {LaunchState.PROVISIONING: 2}
    eta = Eta(50.0, 100.0, 200.0, late=(1,))
    for index, spec in enumerate(specs):
        table.note(
            LaunchProgress(
                *(index, spec, LaunchState.PROVISIONING, None, None, None, counts, 100.0),
                estimate=lambda: eta,
            )
        )
    assert table.title() == "2 provisioning, about 1:40 min to go (0:50 to 3:20, 1 late)"
    assert [row.note for row in table.rows()] == ["", "late"]
    table.note(LaunchProgress(1, specs[1], LaunchState.ACTIVE, None, None, None, counts, 1.0, lambda: eta))
    assert [row.note for row in table.rows()] == ["", ""], "the estimate is a second old"


def test_a_slow_launch_never_has_0_to_go(cloud: Cloud, batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    real = LaunchTable.title

    def title(self: LaunchTable) -> str:
        titles.append(real(self))
        return titles[-1]

    monkeypatch.setattr(LaunchTable, "title", title)
    cloud.simulator.provisioning = Provisioning(median=1500.0, sigma=0.0)
    out = cloud.ok("launch", batch, "--timeout", "1h").out
    assert {line.split()[-1] for line in out.splitlines() if line.split()[2:3] == ["provisioning"]} >= {
        "late"
    }
    assert all("about 0:00" not in title for title in titles if "provisioning" in title)
    assert sum("to go (" in title for title in titles) > 300


def test_launch_for_scripts(cloud: Cloud, batch: Path) -> None:
    cloud.simulator.fail_next_provisioning()
    done = cloud.run("launch", batch, "--json")
    assert done.code == 1
    report = done.json
    assert (report["ready"], report["failed"]) == (3, 1)
    assert [row["index"] for row in report["outcomes"]] == [0, 1, 2, 3]
    failed = [row for row in report["outcomes"] if row["state"] == "failed"]
    assert [row["error"] for row in failed] == ["InstanceFailedError"]
    prices = [Decimal(row["instance"]["hourly"]) for row in report["outcomes"] if row["instance"]]
    assert report["hourly"] == str(sum(prices))
    assert len(cloud.live()) == 3


def test_a_quorum(cloud: Cloud, batch: Path) -> None:
    cloud.simulator.fail_next_provisioning()
    assert cloud.run("launch", batch, "--min-ready", "3").code == 0
    assert len(cloud.live()) == 3
    cloud.ok("terminate", *[instance.id for instance in cloud.simulator.live()], "--yes")
    cloud.simulator.fail_next_provisioning()
    done = cloud.run("launch", batch, "--min-ready", "5")
    assert (done.code, done.out) == (2, ""), "what was refused has not begun"
    done = cloud.run("launch", batch, "--min-ready", "4", "--json")
    assert done.code == 1
    assert "called off: 3 of at least 4 could become ready" in done.err
    assert {row["state"] for row in done.json["outcomes"]} == {"failed", "terminated"}
    assert cloud.live() == []


def test_a_launch_that_takes_too_long(cloud: Cloud, batch: Path) -> None:
    done = cloud.run("launch", batch, "--timeout", "30s")
    assert done.code == 124
    assert "terminated" not in done.out, "none of them was gone by then"
    assert done.out.count("INITIALIZED  ending") == 4
    assert done.out.count("being ended") == 5, "in the counts, and for each"
    assert "4 of 4 ended" not in done.out
    assert cloud.live() == []


def test_a_ceiling_and_fallbacks(cloud: Cloud, batch: Path) -> None:
    done = cloud.run("launch", batch, "--max-hourly", "0.8")
    assert done.code == 2
    assert "over --max-hourly 0.8" in done.err
    assert cloud.run("launch", batch, "--fallback", "nothing").code == 2
    cheap, other = (cloud.simulator.catalog.find("container", gpu) for gpu in ("t4", "l4"))
    # Sold out after the prices were asked for, and before the deploys.
    cloud.simulator.fail("POST /gpu/instances/", Fault.status(400, {"detail": "Plan is no longer available"}))
    report = cloud.ok("launch", batch, "--fallback", other.slug, "--json").json
    plans = [row["plan_id"] for row in report["outcomes"] if row["kind"] == "container"]
    assert sorted(plans) == sorted([cheap.id, cheap.id, other.id])


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)])
def test_names_that_are_live_are_refused(cloud: Cloud, batch: Path, dry_run: tuple[str, ...]) -> None:
    first = cloud.deploy("exp-01")["id"]
    spent, asked = cloud.simulator.spent(), cloud.simulator.count("GET /gpu/instances/")
    done = cloud.run("launch", batch, *dry_run)
    assert (done.code, done.out) == (2, "")
    assert f"live and billing already: container exp-01 ({first})" in done.err
    assert "--adopt" in done.err
    assert cloud.simulator.count("GET /gpu/instances/") == asked + 1
    flags = ("--plan", cloud.plan(), *SSH)
    for more in ((), ("--no-wait",)):
        done = cloud.run("deploy", "exp-01", *flags, *more, *dry_run)
        assert (done.code, done.out) == (2, "")
        assert first in done.err
    assert cloud.simulator.spent() == spent
    assert cloud.live() == ["exp-01"]


def test_a_killed_launch_is_resumed(cloud: Cloud, batch: Path) -> None:
    first = cloud.deploy("exp-01", "--no-wait")["id"]
    told = cloud.ok("launch", batch, "--adopt", "--dry-run", "--max-hourly", "0.86", "--json").json
    assert [ref["id"] for ref in told["adopted"]] == [first]
    assert [row["name"] for row in told["instances"]] == ["exp-00", "exp-02", "vm-1"]
    assert told["hourly"] == "0.715", "what is to be deployed"
    done = cloud.run("launch", batch, "--adopt", "--dry-run")
    assert f"container exp-01 ({first}) is live and would be taken" in done.out
    assert "3 to deploy" in done.out
    assert cloud.run("launch", batch, "--adopt", "--max-hourly", "0.82").code == 2
    assert len(cloud.simulator.instances()) == 1
    report = cloud.ok("launch", batch, "--adopt", "--min-ready", "4", "--max-hourly", "0.86", "--json").json
    assert report["ready"] == 4
    assert first in [row["id"] for row in report["outcomes"]]
    assert sorted(cloud.live()) == ["exp-00", "exp-01", "exp-02", "vm-1"]
    assert cloud.simulator.spent() == Decimal("0.855")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--max-hourly", "0.8"), "over --max-hourly 0.8"),
        (("--max-hourly", "much"), "--max-hourly is an amount"),
        (("--min-ready", "5"), "--min-ready is a whole number from 0 to 4"),
        (("--min-ready", "-1"), "--min-ready is a whole number from 0 to 4"),
        (("--fallback", "nothing"), "--fallback: no plan or GPU 'nothing' is for rent now"),
    ],
)
def test_a_dry_run_refuses_what_the_run_refuses(
    cloud: Cloud, batch: Path, flags: tuple[str, ...], told: str
) -> None:
    dry, real = cloud.run("launch", batch, "--dry-run", *flags), cloud.run("launch", batch, *flags)
    assert (dry.code, dry.out) == (real.code, real.out) == (2, "")
    assert told in dry.err
    assert dry.err == real.err
    assert cloud.simulator.instances() == []


def test_a_launch_reports_all_problems_at_once(cloud: Cloud, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text("[[instance]]\nname = 'a'\nkind = 'vm'\nmax_hourly = 1\nssh_key = 'ssh-rsa x'\n")
    flags = ("--min-ready", "2", "--max-hourly", "much", "--fallback", "nothing")
    done = cloud.run("launch", path, *flags, "--dry-run")
    assert done.code == 2
    for word in ("instance 1 (a): ssh_key", "--min-ready", "--max-hourly", "--fallback"):
        assert done.err.count(f"  {word}") == 1, done.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("# Read me\n\nssh-ed25519 is a type of keys.\n", "3 lines; a public key is one line"),
        ("ssh-rsa\n", "one of them is missing"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n", "this is a private key"),
        ("ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIJd9 me\n", "do not agree"),
    ],
)
def test_a_file_without_public_key_is_refused(cloud: Cloud, tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "key").write_text(text)
    flags = ("--plan", cloud.plan(), *SSH, "--ssh-key", tmp_path / "key")
    for more in ((), ("--dry-run",)):
        done = cloud.run("deploy", "exp-1", *flags, *more)
        assert done.code == 2
        assert told in done.err
        assert "c2Vj" not in done.err
    assert cloud.simulator.instances() == []


def test_a_batch_from_stdin(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(BATCH))
    assert len(cloud.ok("launch", "-", "--dry-run", "--json").json["instances"]) == 4


def test_flags_go_before_a_file(cloud: Cloud, tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text(f'[[instance]]\nname = "a"\nimage = "nginx"\nexpose = 8080\nplan = "{cloud.plan()}"\n')
    assert cloud.ok("deploy", "--file", path, "--json").json["name"] == "a"
    shown = cloud.ok("deploy", "b", "--file", path, "--image", OTHER_IMAGE, "--json").json
    assert (shown["name"], shown["image"]) == ("b", OTHER_IMAGE)


# --- what a file may say ------------------------------------------------------------------------------------

WRONG = """
[default]
image = "x"

[defaults]
imagee = "ubuntu"

[[instance]]
name = "exp-{i}"
count = "three"
gpu = "h1000"
image = "UPPER"
expose = [99999]

[[instance]]
name = "vm-1"
kind = "vm"
plan = "nothing"
image = "ubuntu"

[[instance]]
name = "same"
count = 2
max_hourly = 1
image = "ubuntu"
expose = [22]
environment = { lower = "x", A = 5 }
pass_environment = ["NO_SUCH_VARIABLE"]

[[instance]]
name = "far"
plan = "t4-16gi-pcie-1gpu-4cpu-16gi-40gi"
image = "ubuntu"
expose = [22]
location = "ZZ"

[[instance]]
name = "x"
kind = "lorry"

[[instance]]
name = "key"
max_hourly = 1
image = "pytorch-2-6"
credentials = { host = "example.org", password = "hunter2" }
"""

PROBLEMS = [
    "default: unknown; do you mean defaults?",
    "defaults: imagee: unknown; do you mean image?",
    "instance 1 (exp-{i}): count: must be a whole number",
    "instance 1 (exp-{i}): plan: nothing for rent fits kind=container, gpu=h1000; no gpu",
    "instance 1 (exp-{i}): image: 'UPPER' must be lower case",
    "instance 1 (exp-{i}): expose[0]: port must be between 1 and 65535, not 99999",
    "instance 2 (vm-1): plan: no vm plan 'nothing' is for rent now",
    "instance 2 (vm-1): image: this is for containers",
    "instance 2 (vm-1): ssh_key: required for a machine",
    "instance 3 (same): environment: 'lower' is not a name of A-Z",
    "instance 3 (same): environment: the value of 'A' is a int, not a text",
    "instance 4 (far): location: 'ZZ' is none of the plan's: US SG",
    "instance 3 (same): pass_environment: you have no variable 'NO_SUCH_VARIABLE'",
    "instance 3 (same): name: a name for many is written with {i}",
    "instance 5 (x): kind: container, vm, baremetal, not 'lorry'",
    "instance 6 (key): ssh_key: the image 'pytorch-2-6' needs one",
    "instance 6 (key): credentials.password: unknown",
    "instance 6 (key): credentials.password_variable: names the variable that holds the password",
    "instance 6 (key): credentials.host: 'example.org' is not one of docker.io, ghcr.io",
]


def test_every_problem_is_named_at_once(cloud: Cloud, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(WRONG)
    done = cloud.run("launch", path)
    assert done.code == 2
    for problem in PROBLEMS:
        assert done.err.count(problem) == 1, done.err
    assert "hunter2" not in done.err
    assert cloud.simulator.instances() == []


FINE = "[[instance]]\nname = 'a'\nimage = 'x'\nexpose = 22\n"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("this is no TOML", "wrong.toml: this is not TOML"),
        ("", "at least one [[instance]]"),
        ("[instance]\nname = 'x'", "at least one [[instance]]"),
        ("instance = [3]", "instance 1: write it as a table, [[instance]]"),
        ("[[instance]]\ncount = 2", "name: required"),
        ("[[instance]]\nname = 'a'\n" * 2, "several containers would be"),
        ("[[instance]]\nname = 'x'\nimage = 'x'\nexpose = [22]", "plan: required; or one of gpu"),
        (
            "[[instance]]\nname = 'x'\nmax_hourly = 'much'\nimage = 'x'\nexpose = 22",
            "max_hourly is an amount",
        ),
        (
            "[[instance]]\nname = 'a-{i}'\ncount = 0\nmax_hourly = 1\nimage = 'x'\nexpose = 22",
            "count: 0 is not",
        ),
        (
            "[[instance]]\nname = 'a'\nmax_hourly = 1\nimage = 'x'\nexpose = 22\n" * 2,
            "several containers would be",
        ),
        ("[[instance]]\nname = 'a'\nmax_hourly = 1\nssh_key = 'no.pub'", "neither the text of a public key"),
        (
            "[[instance]]\nname = 'a'\nkind = 'vm'\nmax_hourly = 1\nos_image = 'dos'",
            "os_image: 'dos' is none",
        ),
    ],
)
def test_a_file_that_makes_no_sense(cloud: Cloud, tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    done = cloud.run("launch", path)
    assert done.code == 2
    assert word in done.err


def test_a_file_that_is_not_there(cloud: Cloud, tmp_path: Path) -> None:
    assert cloud.run("launch", tmp_path / "none.toml").code == 2
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert "it is not a text file" in cloud.run("launch", tmp_path / "binary").err
    (tmp_path / "many.toml").write_text(BATCH)
    assert "asks for 4 instances; see `launch`" in cloud.run("deploy", "--file", tmp_path / "many.toml").err


def test_keys_passwords_and_variables_are_read(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "id.pub").write_text(f"{SSH_KEY}\n")
    monkeypatch.setenv("TOKEN", "hunter2")
    monkeypatch.setenv("FLUENCE_REGISTRY_PASSWORD", "hunter3")
    shown = cloud.deploy(
        *("exp-1", "--ssh-key", str(tmp_path / "id.pub"), "-e", "TOKEN"),
        *("--registry", "ghcr.io", "--registry-user", "me"),
    )
    assert shown["environment"] == ["SSH_PUBKEY", "TOKEN"]
    (instance,) = cloud.simulator.live()
    settings = instance.settings  # type: ignore[attr-defined]
    assert settings.ssh_key == SSH_KEY
    assert dict(settings.environment)["TOKEN"] == "hunter2"
    (tmp_path / "id").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n")
    flags = ("--plan", cloud.plan(), "--image", "x", "-p", "22", "--ssh-key", tmp_path / "id")
    done = cloud.run("deploy", "b", *flags)
    assert done.code == 2
    assert "this is a private key" in done.err
    assert "abc" not in done.err


def test_a_killed_launch_is_swept_by_its_journal(cloud: Cloud, batch: Path, tmp_path: Path) -> None:
    journal = tmp_path / "run.journal"
    cloud.ok("launch", batch, "--journal", journal)
    # All of it was handed over, so nothing was left behind.
    assert cloud.ok("sweep", "--journal", journal).out == "Nothing was found.\n"
    assert len(cloud.live()) == 4


# --- GPUs in order of preference ---------------------------------------------------------------------------

GPUS = """
gpu = ["rtx4090", "l4"]
min_ready = 2
max_hourly = 5
fallback = "t4"

[[instance]]
name = "exp-{i}"
count = 2
image = "nginx"
expose = [8080]
"""


def models(cloud: Cloud) -> list[str]:
    return sorted(row["gpu"]["model"] for row in cloud.ok("ls", "--json").json)


def test_a_launch_takes_the_first_gpu_for_rent(cloud: Cloud, tmp_path: Path) -> None:
    (path := tmp_path / "gpus.toml").write_text(GPUS)
    cloud.ok("launch", path)
    assert models(cloud) == ["rtx4090", "rtx4090"]
    cloud.ok("terminate", "exp-0", "exp-1", "--yes")
    cloud.ok("launch", path, "--gpu", "h1000", "--gpu", "v100")
    assert models(cloud) == ["v100", "v100"]
    cloud.ok("terminate", "exp-0", "exp-1", "--yes")
    done = cloud.run("launch", path, "--max-hourly", "0.5")
    assert (done.code, "over --max-hourly 0.5" in done.err, cloud.live()) == (2, True, [])


def test_the_next_gpu_if_the_first_is_sold_out(cloud: Cloud, tmp_path: Path) -> None:
    (path := tmp_path / "gpus.toml").write_text(GPUS)
    # Sold out after the prices were asked for, and before the deploys.
    gone = Fault.status(400, {"detail": "Plan is no longer available"})
    cloud.simulator.fail("POST /gpu/instances/", gone)
    cloud.ok("launch", path)
    assert len(models(cloud)) == 2
    cloud.ok("terminate", "exp-0", "exp-1", "--yes")
    for offer in cloud.simulator.catalog.offers.values():
        if "rtx4090" in offer.slug:
            cloud.simulator.sell_out(offer.id)
    cloud.ok("launch", path)
    assert models(cloud) == ["l4", "l4"]


def test_waiting_for_capacity(cloud: Cloud, tmp_path: Path) -> None:
    (path := tmp_path / "gpus.toml").write_text(GPUS)
    for offer in cloud.simulator.catalog.offers.values():
        cloud.simulator.sell_out(offer.id)
    assert cloud.run("launch", path).code == 2, "the fallback is gone, too"
    flags = ("deploy", "exp-0", "--gpu", "l4", "--gpu", "rtx4090", *SSH)
    assert cloud.run(*flags).code == 1
    l4 = cloud.simulator.catalog.find("container", "l4").id
    cloud.during = lambda loop: loop.call_later(40, cloud.simulator.restock, l4)
    told = cloud.ok(*flags, "--wait-for-capacity", "2m").err
    assert told.count("nothing for rent fits") == told.count("Trying again until ") == 1
    assert models(cloud) == ["l4"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("gpu = []", "gpu: must be a GPU model, or a list of them"),
        ("gpu = [1]", "gpu: must be a GPU model, or a list of them"),
        ("min_ready = 'two'", "min_ready: must be a whole number"),
        ("wait_for_capacity = 'long'", "wait_for_capacity: 'long' is not a time"),
        ("fallbacks = 't4'", "fallbacks: unknown; do you mean fallback?"),
    ],
)
def test_wrong_values_for_a_launch(cloud: Cloud, tmp_path: Path, line: str, problem: str) -> None:
    (path := tmp_path / "wrong.toml").write_text(
        f'{line}\n[[instance]]\nname = "a"\nmax_hourly = 1\nimage = "x"\nexpose = 22\n'
    )
    done = cloud.run("launch", path)
    assert (done.code, problem in done.err, cloud.live()) == (2, True, []), done.err
