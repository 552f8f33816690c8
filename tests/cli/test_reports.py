"""Reports of commands about odd states: lost replies, odd lists, a silent service, files of another form."""

from __future__ import annotations

import io
import signal
from pathlib import Path

import pytest
from rich.console import Console

from aiofluence.cli.exit_codes import explain
from aiofluence.cli.live import LiveRow
from aiofluence.cli.rich_display import LiveDisplay
from aiofluence.simulator import ClusterOptions, Fault, Provisioning, VirtualClockLoop

from ..harness import ROOMY
from .conftest import SSH, Cloud


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# --- a service that is silent or odd ------------------------------------------------------------------------


def test_a_silent_service_is_given_up(cloud: Cloud) -> None:
    cloud.simulator.fail("*", Fault.hang(), times=None)
    done = cloud.run("ls")
    assert done.code == 124
    assert "No reply from http://127.0.0.1" in done.err
    assert "within 60 s" in done.err.splitlines()[-1]


def test_a_lost_reply_is_watched_for_a_duplicate(cloud: Cloud) -> None:
    cloud.simulator.fail("POST /gpu/instances/", Fault.reset(), when="after")
    done = cloud.ok("deploy", "exp-1", "--plan", cloud.plan(), *SSH)
    assert "this watches a few minutes for a late duplicate of exp-1" in done.err
    assert cloud.live() == ["exp-1"]


def test_an_unclear_deploy_names_its_sweep(cloud: Cloud) -> None:
    cloud.simulator.fail("POST /gpu/instances/", Fault.reset(), when="after", times=None)
    # The first list, before the deploy, shows that the name is free.
    cloud.simulator.fail("GET /gpu/instances/", Fault.status(500), times=None, skip=1)
    done = cloud.run("deploy", "exp-1", "--plan", cloud.plan(), *SSH, "--timeout", "60")
    assert done.code == 1
    assert "aiofluence sweep --prefix exp-1" in done.err
    assert cloud.live() == ["exp-1"]


def test_a_sweep_names_kinds_and_rows_left_out(cloud: Cloud) -> None:
    cloud.deploy("exp-1")
    cloud.simulator.fail("GET /gpu/instances/vms", Fault.status(500), times=None)
    cloud.simulator.fail("GET /gpu/instances/baremetal", Fault.body([{"odd": 1}]), times=None)
    done = cloud.run("sweep", "--prefix", "exp-", "--yes")
    assert "instances of kind vm may be left out" in done.err
    assert "1 rows cannot be read, and may be left out" in done.err
    assert cloud.live() == []
    assert done.code == 1


def test_a_sweep_names_what_it_could_not_end(cloud: Cloud) -> None:
    ref = cloud.deploy("exp-1")
    cloud.simulator.fail("DELETE /gpu/instances/{id}", Fault.status(400, {"detail": "not now"}), times=None)
    done = cloud.run("sweep", "--prefix", "exp-", "--yes")
    assert done.code == 1
    assert f"{ref['id']}) could not be ended" in done.err
    assert cloud.live() == ["exp-1"]


def test_events_that_fail_hide_no_row(cloud: Cloud) -> None:
    cloud.deploy("exp-1", "--command", "exit 1", "--until", "active")
    cloud.simulator.fail("GET /gpu/instances/{id}/events", Fault.status(500), times=None)
    done = cloud.ok("ls", "--check")
    assert "exp-1" in done.out


def test_an_unknown_balance_hides_no_price(cloud: Cloud) -> None:
    order = ("deploy", "exp-1", "--plan", cloud.plan(), *SSH, "--dry-run")
    cloud.simulator.set_balance("0.01")
    assert "The balance of 0.01 USDC cannot pay that. Nothing was deployed." in cloud.ok(*order).out
    cloud.simulator.fail("GET /v2/users/balances", Fault.status(500), times=None)
    assert cloud.ok(*order).out.splitlines()[-1] == "Nothing was deployed."
    done = cloud.run("account", "--json")
    assert done.json["balance"] is None
    assert "not known: " in done.err


# --- instances ----------------------------------------------------------------------------------------------


def test_ages(cloud: Cloud) -> None:
    cloud.simulator.profile = ROOMY
    cloud.deploy("exp-1", "--no-wait")
    for seconds, age in ((40.0, "s"), (3600 * 2 + 300, "2h05m"), (3600 * 28 + 10, "1d04h")):
        cloud.simulator.advance(seconds)
        (row,) = cloud.ok("ls", "--wide").out.splitlines()[1:]
        assert age in row


def test_ssh_waits_for_an_address(cloud: Cloud) -> None:
    cloud.deploy("exp-1", "--until", "active")
    done = cloud.ok("ssh", "exp-1", "--print", "--user", "me")
    assert "Waiting until exp-1 is ready." in done.err
    assert "me@" in done.out
    done = cloud.run("ssh", "exp-1", "--print", "--user=-oProxyCommand=x")
    assert (done.code, "is not the name of a user" in done.err) == (2, True)


def test_a_machine_shows_its_system(cloud: Cloud) -> None:
    system = cloud.simulator.catalog.find("vm").os_options[0]
    cloud.ok("deploy", "vm-1", "--kind", "vm", "--plan", cloud.plan("vm"), "--ssh-key", SSH[-1])
    assert system in cloud.ok("show", "vm-1").out


def test_watched_lists_show_what_is_gone(cloud: Cloud) -> None:
    cloud.deploy("exp-1")
    cloud.simulator.fail("GET /gpu/instances/", Fault.body([]), times=None, skip=2)
    cloud.during = lambda loop: loop.call_later(60, signal.raise_signal, signal.SIGINT)
    done = cloud.run("ls", "--watch")
    assert [line.split()[:3] for line in done.out.splitlines()] == [
        ["exp-1", "container", "ACTIVE"],
        ["exp-1", "container", "gone"],
    ]


# --- files and terminals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff", "not a text file"),
        (b"profile = 1", "write each profile as a table"),
        (b"[profile.a]\nkey_file = 1", "key_file: must be a text"),
    ],
)
def test_configurations_of_another_form(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, problem: str
) -> None:
    (file := tmp_path / "config.toml").write_bytes(content)
    monkeypatch.setenv("FLUENCE_CONFIG", str(file))
    done = cloud.run("ls")
    assert (done.code, problem in done.err) == (2, True), done.err


def test_an_unreadable_env_file_is_refused(cloud: Cloud, tmp_path: Path) -> None:
    (file := tmp_path / "env").write_bytes(b"\xff=1\n")
    done = cloud.run("deploy", "exp-1", "--plan", cloud.plan(), *SSH, "--env-file", file)
    assert (done.code, "it is not a text file" in done.err) == (2, True)
    assert cloud.simulator.instances() == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('plan = "{plan}"\nos_image = "Ubuntu"', "os_image: this is for machines"),
        ('plan = "{plan}"\npass_environment = [1]', "pass_environment: must be a list of names"),
    ],
)
def test_batch_files_of_another_form(cloud: Cloud, tmp_path: Path, text: str, problem: str) -> None:
    (file := tmp_path / "batch.toml").write_text(
        '[[instance]]\nname = "exp-1"\nimage = "nginx"\nexpose = [8080]\n' + text.format(plan=cloud.plan())
    )
    done = cloud.run("launch", file, "--dry-run")
    assert (done.code, problem in done.err) == (2, True), done.err
    assert cloud.simulator.instances() == []


def test_the_clean_up_redraws_one_line(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    cloud.during = lambda loop: loop.call_later(30, signal.raise_signal, signal.SIGINT)
    done = cloud.run("deploy", "exp-1", "--plan", cloud.plan(), *SSH)
    assert done.code == 130
    *drawn, last = terminal.getvalue().split("\r\x1b[K")[1:]
    assert len(drawn) > 3
    assert all(line.startswith("0 of 1 ended") and "\n" not in line for line in drawn)
    assert last.endswith("; Ctrl-C again leaves 1 running\nInterrupted: exp-1 ended, none is left running.\n")
    assert cloud.live() == []


def test_groups_of_errors_are_told_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    errors = ExceptionGroup(
        "several", [OSError("the disk is full"), ExceptionGroup("", [OSError("no host")])]
    )
    assert explain(errors) == 1
    assert capsys.readouterr().err == "aiofluence: the disk is full\naiofluence: no host\n"
    with pytest.raises(ExceptionGroup):
        explain(ExceptionGroup("a bug", [OSError("x"), ZeroDivisionError()]))


def test_log_files_mark_gaps_and_hold_grown_lines(cloud: Cloud, tmp_path: Path) -> None:
    cloud.simulator.cluster = ClusterOptions(log_interval=None, ring=50)
    simulator, id = cloud.simulator, cloud.deploy("exp-1")["id"]
    simulator.print(id, *(f"before {number}" for number in range(40)))

    def during(loop: VirtualClockLoop) -> None:
        loop.call_later(20, lambda: simulator.print(id, "par", end=""))
        loop.call_later(60, simulator.print, id, "tial")
        loop.call_later(120, simulator.print, id, *(f"after {number}" for number in range(500)))
        loop.call_later(180, signal.raise_signal, signal.SIGINT)

    cloud.during = during
    assert cloud.run("logs", "exp-1", "-f", "--last", "5", "--output-dir", tmp_path).code == 130
    (file,) = tmp_path.iterdir()
    lines = file.read_text().splitlines()
    assert [line for line in lines if line.startswith("par")] == ["partial"]
    (mark,) = (index for index, line in enumerate(lines) if line.startswith("--- "))
    assert lines[mark - 1] == "partial"
    assert lines[-1] == "after 499"


def test_a_long_live_table_shows_who_is_awaited() -> None:
    console = Console(file=(out := io.StringIO()), force_terminal=True, width=100, height=14)
    rows = [LiveRow(f"exp-{n}", "l4", "provisioning", 0.0, "0.5", busy=n >= 30) for n in range(40)]
    with LiveDisplay(console, lambda: 0.0).progress() as update:
        update(rows, "30 of 40 ready")
    shown = out.getvalue()
    assert "exp-30" in shown
    assert "exp-29" not in shown
    assert "30 of 40 ready" in shown
    assert " more" in shown


@pytest.mark.parametrize(
    ("words", "candidate"),
    [
        (["deploy", "x", "--location", ""], "US"),
        (["plans", "--provider", ""], "massed-compute"),
        (["show", "exp-1", ""], None),
        (["no-verb", ""], None),
        (["deploy", "--no-wait", "--adopt", "--wa"], "--wait"),
        (["deploy", "x", "--max-hourly", ""], None),
    ],
)
def test_completed_values(cloud: Cloud, words: list[str], candidate: str | None) -> None:
    found = [line.partition("\t")[0] for line in cloud.ok("--complete", *words).out.splitlines()]
    assert candidate in found if candidate is not None else found == []


def test_completion_survives_a_wrong_file(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file := tmp_path / "config.toml").write_text("no toml")
    monkeypatch.setenv("FLUENCE_CONFIG", str(file))
    assert cloud.ok("--complete", "--profile", "").out == ""
    assert cloud.ok("--complete", "show", "").out == ""


def test_no_profiles_are_told(cloud: Cloud) -> None:
    assert (
        cloud.ok("profiles").err
        == "There are no profiles: /nowhere/config.toml does not exist, or has none.\n"
    )


def test_a_wait_without_a_timeout(cloud: Cloud) -> None:
    cloud.simulator.provisioning = Provisioning(median=40_000.0, sigma=0.0)
    cloud.deploy("exp-1", "--no-wait")
    assert cloud.ok("wait", "exp-1", "--timeout", "never").out == "exp-1 is active\n"


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_while_watching_is_told(cloud: Cloud, times: int) -> None:
    cloud.simulator.fail("POST /gpu/instances/", Fault.reset(), when="after")

    def interrupt(loop: VirtualClockLoop) -> None:
        for number in range(times):
            loop.call_later(170 + number, signal.raise_signal, signal.SIGINT)

    cloud.during = interrupt
    done = cloud.run("deploy", "exp-1", "--plan", cloud.plan(), *SSH)
    assert done.code == 130
    assert "watching for late duplicates of exp-1; Ctrl-C again leaves\n" in done.err
    assert done.err.endswith("Interrupted.\n")
    assert cloud.live() == ["exp-1"]
