"""Each command once as a person and once as a script, with an eye on the simulated cloud's bills."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import aiofluence
from aiofluence.cli.commands.change import _end
from aiofluence.models.logs import GapReason
from aiofluence.simulator import LIKELY, ClusterOptions, Fault, Program, Simulator, run_virtual

from ..harness import OTHER_IMAGE, container_spec, session_on
from .conftest import SSH, Cloud, Done

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJd9 someone@example.org"


# --- the catalogue ------------------------------------------------------------------------------------------


def test_plans(cloud: Cloud) -> None:
    offers = cloud.ok("plans", "--gpu", "h100", "--json").json
    prices = [Decimal(offer["hourly"]) for offer in offers]
    assert prices == sorted(prices)
    assert {offer["gpu"]["model"] for offer in offers} == {"h100"}
    assert {offer["kind"] for offer in offers} == {"container", "vm", "baremetal"}
    head, *rows = cloud.ok("plans", "--gpu", "h100").out.splitlines()
    assert head.split() == ["GPU", "VRAM", "CPUS", "MEM", "DISK", "USDC/H", "KIND", "WHERE", "PLAN"]
    assert [row.split()[-1] for row in rows] == [offer["plan_id"][:8] for offer in offers]
    head, *rows = cloud.ok("plans", "--gpu", "h100", "--wide").out.splitlines()
    assert head.split() == [
        "GPU",
        "VRAM",
        "CPUS",
        "MEM",
        "DISK",
        "USDC/H",
        "UPFRONT",
        "KIND",
        "WHERE",
        "PROVIDER",
        "PLAN",
    ]
    assert [row.split()[-1] for row in rows] == [offer["plan_id"] for offer in offers]


def is_in_the_us(location: str) -> bool:
    """Countries of containers are codes, places of machines are free text."""
    return location == "US" or location == "Texas" or location.startswith("us-") or "usa" in location


@pytest.mark.parametrize(
    ("flags", "holds"),
    [
        (["--kind", "vm"], lambda offer: offer["kind"] == "vm"),
        (["--gpu-count", "8"], lambda offer: offer["gpu"]["count"] == 8),
        (["--location", "us"], lambda offer: any(map(is_in_the_us, offer["locations"]))),
        (["--max-hourly", "0.5"], lambda offer: Decimal(offer["hourly"]) <= Decimal("0.5")),
        (["--min-cpus", "16"], lambda offer: offer["vcpu"] >= 16),
        (["--min-memory", "128Gi"], lambda offer: offer["memory_gib"] >= 128),
        (["--min-storage", "500Gi"], lambda offer: offer["storage_gib"] >= 500),
        (["--min-vram", "80Gi"], lambda offer: offer["gpu"]["vram_gib"] >= 80),
        (["--provider", "massed-compute"], lambda offer: "assed" in (offer["provider"] or "")),
    ],
)
def test_filters_of_plans(cloud: Cloud, flags: list[str], holds: object) -> None:
    everything = cloud.ok("plans", "--json").json
    some = cloud.ok("plans", *flags, "--json").json
    assert callable(holds)
    assert some == [offer for offer in everything if holds(offer)]
    assert 0 < len(some) < len(everything)


def test_the_cheapest_few_and_none(cloud: Cloud) -> None:
    assert len(cloud.ok("plans", "--limit", "2", "--json").json) == 2
    done = cloud.run("plans", "--gpu", "h1000")
    assert (done.code, done.out) == (1, "")
    assert "no gpu 'h1000' is for rent; close to it: h100" in done.err
    assert "without --gpu h1000: 1x " in done.err
    done = cloud.run("plans", "--gpu", "h1000", "--json")
    assert (done.code, done.json) == (1, [])
    assert cloud.run("plans", "--max-hourly", "much").code == 2
    done = cloud.run("plans", "--min-memory", "32 apples")
    assert (done.code, "--min-memory is a size" in done.err) == (2, True)


def test_images(cloud: Cloud) -> None:
    images = cloud.ok("images", "--json").json
    assert {image["slug"] for image in images} >= {"pytorch-2-6", "ollama"}
    assert [row.split()[0] for row in cloud.ok("images").out.splitlines()[1:]] == [i["slug"] for i in images]


# --- what is running ----------------------------------------------------------------------------------------


def test_ls(cloud: Cloud) -> None:
    assert cloud.ok("ls").err == "Nothing is running.\n"
    assert cloud.ok("ls", "--json").json == []
    cloud.deploy("exp-1")
    cloud.deploy("vm-1", "--kind", "vm", "--plan", cloud.plan("vm"), "--ssh-key", SSH_KEY)
    first, second = cloud.ok("ls", "--json").json
    assert (first["name"], first["kind"], first["status"]) == ("exp-1", "container", "ACTIVE")
    assert first["created_at"] < second["created_at"]
    assert "hourly" not in first
    assert [row["name"] for row in cloud.ok("ls", "--kind", "vm", "--json").json] == ["vm-1"]
    assert [row["name"] for row in cloud.ok("ls", "--prefix", "exp", "--json").json] == ["exp-1"]
    (priced, _) = cloud.ok("ls", "--cost", "--json").json
    assert (priced["hourly"], priced["spent"]) == ("0.14", "0.14")
    head, row, _, total = cloud.ok("ls", "--cost").out.splitlines()
    assert head.split() == ["NAME", "KIND", "STATUS", "GPU", "WHERE", "AGE", "USDC/H", "SPENT", "ID"]
    assert row.split()[:3] == ["exp-1", "container", "ACTIVE"]
    assert row.split()[-4:] == [row.split()[-4], "0.14", "0.14", first["id"][:8]]
    assert row.split()[-4].endswith("m"), "the age, by the service's own clock, is some minutes"
    assert total.split() == ["total", "0.58", "0.58"]
    cloud.ok("terminate", "exp-1")
    *_, total = cloud.ok("ls", "--cost", "--all").out.splitlines()
    assert total.split() == ["total", "0.44", "0.58"], "what has ended costs nothing more"
    assert [row["name"] for row in cloud.ok("ls", "--json").json] == ["vm-1"]
    assert [row["status"] for row in cloud.ok("ls", "--all", "--json").json] == ["ENDED", "ACTIVE"]


def test_ls_and_show_name_a_crash_loop(cloud: Cloud) -> None:
    cloud.simulator.profile = LIKELY
    stays = "docker.io/fluencelabs/ubuntu-ssh-root:24.04"
    flags = ("--plan", cloud.plan(), "--expose", "22", "--until", "active", "--json")
    cloud.simulator.programs["gone:1"] = Program(pullable=False)
    cloud.ok("deploy", "good", "--image", stays, *flags)
    cloud.ok("deploy", "bad", "--image", "ubuntu:22.04", *flags)
    cloud.ok("deploy", "gone", "--image", "gone:1", *flags)
    cloud.simulator.advance(cloud.simulator.now + 25)  # between two restarts of `bad`

    def column(done: Done) -> dict[str, str]:
        head, *rows = done.out.splitlines()
        start, end = head.index("STATUS"), head.index("GPU")
        return {row.split()[0]: row[start:end].strip() for row in rows}

    asked = cloud.simulator.count("GET /gpu/instances/{id}")
    assert column(cloud.ok("ls")) == {"good": "ACTIVE", "bad": "ACTIVE", "gone": "ACTIVE"}
    assert cloud.simulator.count("GET /gpu/instances/{id}") == asked
    asked = cloud.simulator.count("GET /gpu/instances/{id}/events")
    assert column(cloud.ok("ls", "--check")) == {"good": "ACTIVE", "bad": "crash loop", "gone": "no image"}
    assert cloud.simulator.count("GET /gpu/instances/{id}/events") == asked + 2
    rows = cloud.ok("ls", "--check", "--json").json
    assert {row["name"]: row["condition"] for row in rows} == {
        "good": None,
        "bad": "crash loop",
        "gone": "no image",
    }
    assert "ACTIVE, NOT_STARTED, crash loop" in cloud.ok("show", "bad").out
    assert cloud.ok("ls", "--check", "--cost").out.splitlines()[0].split()[-3:] == ["USDC/H", "SPENT", "ID"]


def test_machine_cost_includes_minimum_runtime(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    cloud.simulator.profile = LIKELY
    cloud.ok("ls")  # simulated time begins
    flags = ("--kind", "vm", "--plan", cloud.plan("vm"), "--ssh-key", SSH_KEY)
    dry = cloud.ok("deploy", "vm-1", *flags, "--dry-run", "--json").json
    assert Decimal(dry["least"]) == Decimal(dry["hourly"])
    half_past = cloud.simulator.time.replace(minute=50)
    cloud.simulator.advance(cloud.simulator.now + (half_past - cloud.simulator.time).total_seconds())
    dry = cloud.ok("deploy", "vm-1", *flags, "--dry-run", "--json").json
    hourly = Decimal(dry["hourly"])
    assert Decimal(dry["least"]) == 2 * hourly
    told = cloud.ok("deploy", "vm-1", *flags, "--dry-run").out
    assert (
        f"only after 20 minutes of runtime: ended as soon as possible, these instances cost {2 * hourly:f}"
        in told
    )
    cloud.ok("deploy", "vm-1", *flags, "--json")
    _, row, total = cloud.ok("ls", "--cost").out.splitlines()
    spent = Decimal(row.split()[-2])
    assert spent == Decimal(total.split()[-1])
    assert abs(spent - 2 * hourly) <= Decimal("0.02")  # what the service shows is rounded
    done = cloud.ok("terminate", "vm-1", "--timeout", "40m")
    assert any("vm-1: the service ends it only after 20 minutes" in line for line in caplog.messages)
    assert "vm-1 has ended" in done.out
    assert cloud.live() == []


def test_show_has_no_values_and_no_keys(cloud: Cloud) -> None:
    deployed = cloud.deploy(
        "exp-1", "-e", "TOKEN=hunter2", "--ssh-key", SSH_KEY, "--command", "sleep inf", "-p", "80/http"
    )
    shown = cloud.ok("show", "exp-1", "--json").json
    assert shown == deployed
    assert shown["environment"] == ["SSH_PUBKEY", "TOKEN"]
    assert shown["startup_command"] == "sleep inf"
    assert shown["expose"] == ["22/tcp", "80/http"]
    assert shown["ssh"]["user"] == "root"
    assert shown["uri"].startswith("http://")
    for done in (cloud.ok("show", "exp-1"), cloud.ok("show", deployed["id"], "--json")):
        assert "hunter2" not in done.out
        assert "AAAAC3" not in done.out
    told = cloud.ok("show", "exp-1").out
    assert "spent      0.14 USDC, and 0.28 reserved" in told
    assert f"ssh        ssh -p {shown['ssh']['port']} root@{shown['ssh']['host']}" in told


def test_wait(cloud: Cloud) -> None:
    for name in ("exp-1", "exp-2"):
        cloud.ok("deploy", name, "--plan", cloud.plan(), *SSH, "--no-wait")
    assert cloud.run("wait", "exp-1", "exp-2", "--timeout", "10").code == 124
    assert cloud.ok("wait", "exp-1", "exp-2").out.splitlines() == ["exp-1 is active", "exp-2 is active"]
    first, second = cloud.ok("wait", "exp-1", "exp-2", "--until", "ready", "--json").json
    assert first["reached"] is second["reached"] is True
    assert first["instance"]["ssh"] is not None
    cloud.ok("terminate", "exp-1")
    done = cloud.run("wait", "exp-1", "exp-2", "--json")
    assert done.code == 1
    assert [row["error"] for row in done.json] == ["InstanceEndedError", None]
    assert done.err.startswith("aiofluence: container exp-1")
    assert cloud.live() == ["exp-2"], "a wait ends nothing"


def test_ssh(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = cloud.deploy("exp-1")["ssh"]
    port, host = str(where["port"]), where["host"]
    assert cloud.ok("ssh", "exp-1", "--print").out == f"ssh -p {port} root@{host}\n"
    asked = cloud.ok("ssh", "exp-1", "--user", "me", "-i", "my key", "--json", "--", "nvidia-smi", "-L")
    assert asked.json == {"command": ["ssh", "-i", "my key", "-p", port, f"me@{host}", "nvidia-smi", "-L"]}
    assert cloud.run("ssh", "exp-1", "--user", "-oProxyCommand=x", "--print").code == 2
    stand_in = tmp_path / "ssh"
    stand_in.write_text('#!/bin/sh\necho "$@" > "$0.said"\nexit 7\n')
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert cloud.run("ssh", "exp-1", "--", "true").code == 7, "the exit code of ssh is passed on"
    assert (tmp_path / "ssh.said").read_text() == f"-p {port} root@{host} true\n"
    cloud.deploy("web-1", "-p", "80/http", "--expose", "8080")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert "there is no ssh on this machine" in cloud.run("ssh", "exp-1").err


def test_ssh_to_what_has_no_address(cloud: Cloud) -> None:
    cloud.ok("deploy", "exp-1", "--plan", cloud.plan(), *SSH, "--no-wait")
    done = cloud.run("ssh", "exp-1")
    assert done.code == 1
    assert "it has no address yet (INITIALIZED)" in done.err


def test_inventory(cloud: Cloud) -> None:
    cloud.deploy("exp-1")
    cloud.deploy("exp-2")
    cloud.ok("deploy", "new", "--plan", cloud.plan(), *SSH, "--no-wait")
    done = cloud.ok("inventory", "--json")
    assert [host["name"] for host in done.json] == ["exp-1", "exp-2"]
    assert "aiofluence: container new" in done.err
    assert "is left out: it has no address yet" in done.err
    assert cloud.ok("inventory", "exp-2").out.startswith("Host exp-2\n    HostName ")
    pool = cloud.ok("inventory", "--prefix", "exp-1", "--format", "skypilot").json
    assert pool == {"fluence": {"hosts": ["exp-1"]}}
    assert cloud.run("inventory", "--user", "a b").code == 2


# --- logs and events ----------------------------------------------------------------------------------------


def test_logs(cloud: Cloud) -> None:
    id = cloud.deploy("exp-1")["id"]
    nasty = "\x1b[2Jhello\r\u202eworld"
    cloud.simulator.print(id, nasty)
    (line,) = cloud.ok("logs", "exp-1", "--last", "1", "--json").json_lines
    assert line["text"] == nasty
    assert line["raw"].endswith(nasty)
    assert line["pod"] in line["raw"]
    assert cloud.ok("logs", "exp-1", "--last", "1").out == "\\x1b[2Jhello\\r\\u202eworld\n"
    assert len(cloud.ok("logs", "exp-1").out.splitlines()) > 3


def test_logs_of_several(cloud: Cloud) -> None:
    cloud.simulator.cluster = ClusterOptions(log_interval=None)
    for name in ("exp-1", "exp-2"):
        cloud.simulator.print(cloud.deploy(name)["id"], f"hello from {name}")
    out = cloud.ok("logs", "exp-1", "exp-2", "--last", "1").out
    assert out == "exp-1: hello from exp-1\nexp-2: hello from exp-2\n"


def test_following_logs_until_the_container_ends(cloud: Cloud) -> None:
    # Logs that can be read after the end, so that no gap is possible.
    cloud.simulator = simulator = Simulator(
        cluster=ClusterOptions(log_interval=None), profile=LIKELY.replace(logs_after_end="kept")
    )
    id = cloud.deploy("exp-1")["id"]

    def happen(loop: asyncio.AbstractEventLoop) -> None:
        for second in range(1, 60):
            loop.call_later(second, lambda second=second: simulator.print(id, f"line {second}"))  # type: ignore[misc]

    async def end(loop: asyncio.AbstractEventLoop) -> None:
        await asyncio.sleep(90)
        async with aiofluence.Session() as fluence:
            await fluence.containers.terminate(id)

    def script(loop: asyncio.AbstractEventLoop) -> None:
        happen(loop)
        script.end = loop.create_task(end(loop))  # type: ignore[attr-defined]

    cloud.during = script
    lines = cloud.ok("logs", "exp-1", "-f", "--last", "1", "--json").json_lines
    assert [line["text"] for line in lines][-59:] == [f"line {second}" for second in range(1, 60)]
    assert {line["gap"] for line in lines} == {None}
    assert cloud.live() == []


def test_following_marks_missing_lines(cloud: Cloud) -> None:
    cloud.simulator.cluster = ClusterOptions(log_interval=None, ring=50)
    id = cloud.deploy("exp-1")["id"]
    simulator = cloud.simulator
    simulator.print(id, *(f"before {number}" for number in range(40)))

    def overflow(word: str, *flags: str) -> Done:
        lines = [f"{word} {number}" for number in range(500)]
        cloud.during = lambda loop: loop.call_later(20, simulator.print, id, *lines)
        interrupt_at(cloud, 60)
        return cloud.run("logs", "exp-1", "--follow", "--last", "5", *flags)

    done = overflow("line", "--json")
    assert (done.code, done.err) == (130, "Interrupted.\n")
    (gap,) = (line for line in done.json_lines if line["gap"] is not None)
    assert (gap["text"], gap["name"]) == (None, "exp-1")
    assert GapReason(gap["gap"])
    assert " missing: " in overflow("other").out


def test_following_events(cloud: Cloud) -> None:
    cloud.deploy("exp-1")
    before = cloud.ok("events", "exp-1", "--json").json_lines
    interrupt_at(cloud, 60)
    done = cloud.run("events", "exp-1", "-f", "--json")
    assert done.code == 130
    assert done.json_lines == before


def interrupt_at(cloud: Cloud, second: float) -> None:
    """Press Ctrl-C in the middle of the next command, after what is to happen anyway."""
    before = cloud.during

    def during(loop: asyncio.AbstractEventLoop) -> None:
        if before is not None:
            before(loop)  # type: ignore[arg-type]
        loop.call_later(second, signal.raise_signal, signal.SIGINT)

    cloud.during = during


def test_events(cloud: Cloud) -> None:
    cloud.deploy("exp-1")
    events = cloud.ok("events", "exp-1", "--json").json_lines
    assert "Scheduled" in {event["reason"] for event in events}
    told = cloud.ok("events", "exp-1").out
    assert "Normal  Scheduled         " in told
    assert len(told.splitlines()) == len(events)


def test_machines_have_neither(cloud: Cloud) -> None:
    cloud.deploy("vm-1", "--kind", "vm", "--plan", cloud.plan("vm"), "--ssh-key", SSH_KEY)
    for command in ("logs", "events"):
        done = cloud.run(command, "vm-1")
        assert done.code == 2
        assert "only containers have logs and events, not vm vm-1" in done.err


# --- what changes and ends ----------------------------------------------------------------------------------


def test_update(cloud: Cloud) -> None:
    cloud.deploy("exp-1", "-e", "A=1", "-e", "B=2", "--command", "sleep inf", "--ssh-key", SSH_KEY)
    shown = cloud.ok("update", "exp-1", "-e", "C=3", "--unset", "A", "--image", OTHER_IMAGE, "--json").json
    assert shown["image"] == OTHER_IMAGE
    assert shown["environment"] == ["B", "C", "SSH_PUBKEY"]
    assert shown["startup_command"] == "sleep inf", "what no flag names stays"
    assert "command" not in cloud.ok("update", "exp-1", "--command", "").out
    (instance,) = cloud.simulator.live()
    settings = instance.settings  # type: ignore[attr-defined]
    assert dict(settings.environment) == {"B": "2", "C": "3"}
    assert settings.ssh_key == SSH_KEY
    assert settings.startup_command is None


def test_updates_that_make_no_sense(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLUENCE_REGISTRY_PASSWORD", raising=False)
    cloud.deploy("exp-1")
    cloud.deploy("vm-1", "--kind", "vm", "--plan", cloud.plan("vm"), "--ssh-key", SSH_KEY)
    for arguments, word in [
        (["exp-1"], "say what to change"),
        (["vm-1", "--image", "x"], "cannot be updated"),
        (["exp-1", "--ssh-key", "nowhere.pub"], "neither the text of a public key nor a file"),
        (["exp-1", "--env", "NO_SUCH_VARIABLE"], "you have no variable 'NO_SUCH_VARIABLE'"),
        (["exp-1", "--registry", "ghcr.io"], "no variable FLUENCE_REGISTRY_PASSWORD"),
        (["exp-1", "--image", "UPPER"], "must be lower case"),
    ]:
        done = cloud.run("update", *arguments)
        assert (done.code, done.out) == (2, "")
        assert word in done.err
    wrong = ("--image", "UPPER", "-e", "lower=1", "-e", "NO_SUCH_VARIABLE", "--ssh-key", "nowhere.pub")
    done = cloud.run("update", "exp-1", *wrong, "--registry", "example.org")
    first, *problems = done.err.splitlines()
    assert (done.code, first) == (2, "aiofluence: 7 problems, nothing was changed:")
    assert len(problems) == 7
    assert cloud.run("rename", "exp-1", "Upper", "--registry", "example.org").err.count("\n  ") == 4


def test_rename(cloud: Cloud) -> None:
    cloud.deploy("exp-1", "-e", "A=1")
    cloud.deploy("vm-1", "--kind", "vm", "--plan", cloud.plan("vm"), "--ssh-key", SSH_KEY)
    assert cloud.ok("rename", "exp-1", "exp-9").out == "exp-1 is now exp-9\n"
    assert cloud.ok("rename", "vm-1", "vm-9", "--json").json["name"] == "vm-9"
    assert cloud.live() == ["exp-9", "vm-9"]
    assert cloud.ok("show", "exp-9", "--json").json["environment"] == ["A", "SSH_PUBKEY"]
    assert cloud.run("rename", "vm-9", "Not A Name").code == 2
    cloud.deploy("exp-1")
    done = cloud.run("rename", "exp-1", "exp-9")
    assert (done.code, "container exp-9 (" in done.err, cloud.live()) == (2, True, ["exp-9", "vm-9", "exp-1"])


def test_terminate(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        cloud.ok("deploy", f"exp-{number}", "--plan", cloud.plan(), *SSH, "--no-wait")
    assert cloud.ok("terminate", "exp-0").out == "exp-0 has ended: 0.14 USDC spent\n", "one: no question"
    refused = cloud.run("terminate", "exp-1", "exp-2")
    assert (refused.code, refused.err) == (2, "aiofluence: this ends 2 instances: add --yes\n")
    told = cloud.ok("terminate", "exp-1", "exp-2", "--dry-run", "--json").json
    assert [ref["name"] for ref in told["instances"]] == ["exp-1", "exp-2"]
    assert cloud.live() == ["exp-1", "exp-2", "exp-3"]
    ended = cloud.ok("terminate", "exp-1", "exp-2", "exp-1", "--yes", "--json").json
    assert [(row["name"], row["status"], row["spent"]) for row in ended] == [
        ("exp-1", "ENDED", "0.14"),
        ("exp-2", "ENDED", "0.14"),
    ]
    assert cloud.live() == ["exp-3"]
    assert cloud.simulator.reserved() == Decimal("0.28"), "of the one that runs"
    assert cloud.ok("terminate", "exp-1").out == "exp-1 has ended: 0.14 USDC spent\n", "it had already"


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, []), ("n\n", 1, ["exp-0", "exp-1"])])
def test_a_person_is_asked(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, left: list[str]
) -> None:
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name in ("exp-0", "exp-1"):
        cloud.deploy(name)
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    done = cloud.run("terminate", "exp-0", "exp-1", "--json")
    assert done.code == code
    assert "End these 2?" in done.err
    assert cloud.live() == left
    if code == 0:
        assert len(done.json) == 2, "the question is not in the JSON"


def test_terminate_that_times_out(cloud: Cloud) -> None:
    cloud.ok("deploy", "exp-1", "--plan", cloud.plan(), *SSH, "--no-wait")
    done = cloud.run("terminate", "exp-1", "--timeout", "5", "--json")
    assert done.code == 124
    assert done.json[0]["error"] == "WaitTimeoutError"


def test_all_are_ended_without_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(text: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("aiofluence.cli.commands.change.say", lost)
    simulator = Simulator()

    async def main() -> None:
        async with session_on(simulator) as fluence:
            refs = [await fluence.containers.deploy(container_spec(simulator, f"exp-{i}")) for i in range(3)]
            with pytest.raises(BrokenPipeError):
                await _end(fluence, refs, 900, False)
            assert simulator.live() == []

    run_virtual(main)


def names(refs: list[Any]) -> list[str]:
    return sorted(ref["name"] for ref in refs)


def test_sweep(cloud: Cloud) -> None:
    for name in ("ci-1", "ci-2", "mine"):
        cloud.deploy(name)
    assert cloud.run("sweep").code == 2
    dry = cloud.ok("sweep", "--prefix", "ci-", "--dry-run", "--json").json
    assert names(dry["found"]) == ["ci-1", "ci-2"] == names(dry["left"])
    assert cloud.run("sweep", "--prefix", "ci-").code == 2, "it asks, and nobody is there to answer"
    assert cloud.live() == ["ci-1", "ci-2", "mine"]
    assert cloud.ok("sweep", "--older-than", "1d").out == "Nothing was found.\n"
    done = cloud.ok("sweep", "--prefix", "ci-", "--older-than", "1s", "--yes")
    assert sorted(line.split()[1] for line in done.out.splitlines()) == ["ci-1", "ci-2"]
    assert cloud.live() == ["mine"]
    assert cloud.ok("sweep", "--prefix", "mine", "--yes", "--json").json["left"] == []


def test_a_sweep_ends_only_what_it_has_shown(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ci-1", "ci-2"):
        cloud.deploy(name)

    def answer() -> str:
        """While a person reads, a colleague deploys another one."""
        cloud.deploy("ci-of-a-colleague")
        return "y\n"

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stdin.readline", answer)
    done = cloud.ok("sweep", "--prefix", "ci-")
    assert cloud.live() == ["ci-of-a-colleague"]
    assert "colleague" not in done.out


def test_a_sweep_names_what_it_could_not_look_at(cloud: Cloud) -> None:
    cloud.deploy("ci-1")
    cloud.simulator.fail("GET /gpu/instances/vms", Fault.status(500), times=None)
    done = cloud.run("sweep", "--prefix", "ci-", "--yes")
    assert done.code == 1
    assert done.out.endswith(") ended\n")
    assert "instances of kind vm may be left out" in done.err
    assert cloud.live() == []
    dry = cloud.run("sweep", "--prefix", "ci-", "--dry-run", "--json")
    assert dry.code == 1
    assert list(dry.json["failed"]) == ["vm"]


def test_a_missing_journal_is_refused(cloud: Cloud, tmp_path: Path) -> None:
    done = cloud.run("sweep", "--journal", tmp_path / "none.journal")
    assert (done.code, done.out) == (2, "")
    assert "there is no file" in done.err
    assert list(tmp_path.iterdir()) == []


# --- names --------------------------------------------------------------------------------------------------


def test_an_ambiguous_name_lists_both(cloud: Cloud) -> None:
    machine = ("--kind", "vm", "--plan", cloud.plan("vm"), "--ssh-key", SSH_KEY)
    first, second = cloud.deploy("twin")["id"], cloud.deploy("twin", *machine)["id"]
    for command in (["show"], ["terminate"], ["logs"], ["ssh"], ["wait"], ["update"], ["inventory"]):
        done = cloud.run(*command, "twin")
        assert (done.code, done.out) == (2, "")
        assert "twin may be any of 2; give the id of one:" in done.err
        assert first in done.err
        assert second in done.err
    assert len(cloud.live()) == 2
    cloud.ok("terminate", first)
    assert cloud.ok("show", "twin", "--json").json["id"] == second, "what is live goes before what has ended"
    assert cloud.ok("show", first, "--json").json["status"] == "ENDED"
    cloud.ok("terminate", second)
    assert cloud.run("show", "twin").code == 2, "both have ended"


def test_every_name_that_is_unknown_is_told(cloud: Cloud) -> None:
    cloud.deploy("exp-1")
    done = cloud.run("terminate", "exp-1", "exp-2", "exp-3", "--yes")
    assert done.code == 1
    assert done.err.count("there is no instance with the name or id") == 2
    assert cloud.live() == ["exp-1"], "a slip of the pen ends nothing"


def test_account(cloud: Cloud) -> None:
    # One body that is an answer to both questions.
    both = {"balance": "12.5", "usage": "2", "permissions": ["gpu:read", "gpu:write"]}
    cloud.simulator.fail("*", Fault.status(200, both), times=4)
    told = cloud.ok("account", "--json").json
    assert (told["balance"]["balance"], told["balance"]["usage"]) == ("12.5", "2")
    assert told["balance"]["overage"] is None
    assert told["permissions"] == ["gpu:read", "gpu:write"]
    lines = [line.split(maxsplit=1) for line in cloud.ok("account").out.splitlines()]
    assert lines == [["balance", "12.5 USDC"], ["usage", "2 USDC"], ["permissions", "gpu:read gpu:write"]]
    cloud.simulator.fail("*", Fault.status(403, {"detail": "Read-only keys are refused"}), times=None)
    done = cloud.run("account")
    assert (done.code, done.out) == (1, "")
    assert "the key is read-only" in done.err


# --- errors -------------------------------------------------------------------------------------------------


def test_errors_have_no_key_and_no_traceback(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUENCE_API_KEY", "s3cret-key")
    done = cloud.run("ls", "--json")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("aiofluence: GET ")
    assert "s3cret" not in done.err
    monkeypatch.delenv("FLUENCE_API_KEY")
    done = cloud.run("ls")
    assert done.code == 2
    assert done.err.startswith("aiofluence ls: there is no API key")
    for text in (done.err,):
        assert "Traceback" not in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["ls", "--nonsense"],
        ["wait"],
        ["wait", "x", "--timeout", "soon"],
        ["wait", "x", "--until", "later"],
    ],
)
def test_wrong_usage(cloud: Cloud, arguments: list[str]) -> None:
    done = cloud.run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "Try: aiofluence" in done.err


def test_json_stays_json_in_any_encoding(cloud: Cloud) -> None:
    cloud.deploy("exp-1", "--command", "sh -c 'echo 模型 ✓; sleep inf'")
    done = cloud.ok("show", "exp-1", "--json")
    assert done.out.isascii()
    assert json.loads(done.out)["startup_command"] == "sh -c 'echo 模型 ✓; sleep inf'"
