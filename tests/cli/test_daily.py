"""Daily use: narrow terminals, short ids, typos, accounts, completion, a service that is down, log files."""

from __future__ import annotations

import asyncio
import signal
from decimal import Decimal
from pathlib import Path

import attrs
import pytest

from aiofluence.cli import main
from aiofluence.cli.arguments import parameters_of, summary_of
from aiofluence.cli.console import Column, fitted
from aiofluence.cli.exit_codes import CommandError
from aiofluence.cli.lookup import choose_all, list_all
from aiofluence.cli.verbs import VERBS, function_of
from aiofluence.models.instances import Summary
from aiofluence.simulator import ClusterOptions, run_virtual

from ..harness import session_on
from .conftest import SSH, Cloud

VERBS_WITH_TABLES = (
    ["gpus"],
    ["plans"],
    ["images"],
    ["ls"],
    ["ls", "--cost"],
    ["launch", "{batch}", "--dry-run"],
)
BATCH = """
[[instance]]
name = "a-long-name-of-many-{i}"
count = 2
max_hourly = 1
image = "nginx"
expose = [8080]
"""


# --- columns ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 120])
def test_tables_fit_the_terminal(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    (batch := tmp_path / "batch.toml").write_text(BATCH)
    cloud.deploy("a-long-name-of-25-letters")
    monkeypatch.setenv("COLUMNS", str(width))
    for words in VERBS_WITH_TABLES:
        table = cloud.ok(*(word.replace("{batch}", str(batch)) for word in words)).out
        if "launch" in words:
            table = table.partition(" to deploy")[0].rpartition("\n")[0]
        assert max(map(len, table.splitlines())) <= width, table
    assert max(map(len, cloud.ok("plans", "--wide").out.splitlines())) > 120


def test_help_fits_the_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for width in (60, 80):
        monkeypatch.setenv("COLUMNS", str(width))
        for verb in VERBS:
            if verb == "simulator":
                continue
            assert main([verb, "--help"]) == 0
            text, examples, options = capsys.readouterr().out.rpartition("\nOptions:\n")
            prose = text.partition("\nExamples:\n")[0]
            assert examples
            assert max(len(line) for line in (prose + options).splitlines()) <= width, verb
            assert max(map(len, text.splitlines())) <= 80, verb


def test_columns_go_in_their_order() -> None:
    columns = (Column("A"), Column("B", drop=1), Column("C", drop=2), Column("D", fold=True))
    rows = [("a" * 5, "b" * 5, "c" * 5, "d" * 20)]
    shown = {width: fitted(columns, rows, width) for width in (41, 40, 31, 30, 20)}
    assert shown[41][1] == "aaaaa  bbbbb  ccccc  dddddddddddddddddddd"
    assert shown[40][1] == "aaaaa  bbbbb  ccccc  dddddddddddddddddd…"
    assert shown[31][1] == "aaaaa  bbbbb  ccccc  ddddddddd…"
    assert shown[30][1] == "aaaaa  bbbbb  dddddddddddddddd"[:29] + "…"
    assert shown[20][0].split() == ["A", "D"]
    assert fitted(columns, rows, None)[1] == shown[41][1]


# --- names --------------------------------------------------------------------------------------------------


def test_beginning_of_an_id(cloud: Cloud) -> None:
    id = cloud.deploy("exp-1")["id"]
    for text in (id, id[:8], id[:4].upper(), "exp-1"):
        assert cloud.ok("show", text, "--json").json["id"] == id
    assert cloud.run("show", id[:3]).code == 1
    plan = cloud.plan()
    cloud.ok("deploy", "exp-2", "--plan", plan[:8], *SSH, "--no-wait")
    assert cloud.ok("show", "exp-2", "--json").json["gpu"]["model"] == "t4"


def test_patterns(cloud: Cloud) -> None:
    for name in ("exp-1", "exp-2", "exp-3", "other"):
        cloud.deploy(name)
    cloud.ok("terminate", "exp-3")
    lines = cloud.ok("logs", "exp-*", "--json").json_lines
    assert {line["name"] for line in lines} == {"exp-1", "exp-2"}, "live ones"
    done = cloud.run("show", "exp-?")
    assert (done.code, "exp-? fits 2 instances, and this command takes one" in done.err) == (2, True)
    assert "there is no live instance that fits x*" in cloud.run("wait", "x*").err
    assert cloud.run("terminate", "exp-*").code == 2, "asks"
    cloud.ok("terminate", "exp-*", "--yes")
    assert cloud.live() == ["other"]


def test_ambiguous_id_lists_candidates(cloud: Cloud) -> None:
    for number in range(2):
        cloud.deploy(f"exp-{number}")

    async def rows() -> list[Summary]:
        async with session_on(cloud.simulator) as fluence:
            return [attrs.evolve(row, id=f"abcd{row.id[4:]}") for row in await list_all(fluence)]

    found = run_virtual(rows())
    with pytest.raises(CommandError) as caught:
        choose_all(found, ["abcd"])
    assert caught.value.code == 2
    assert "abcd may be any of 2" in str(caught.value)
    for row in found:
        assert f"container {row.name} {row.id} ACTIVE" in str(caught.value)
    assert choose_all(found, [found[0].id[:20]]) == [found[0].ref]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["deply"], "there is no command 'deply'; do you mean deploy?"),
        (["deploy", "x", "--imag", "y"], "there is no option --imag; do you mean --image or --os-image?"),
        (["wait", "x", "--until", "redy"], "do you mean ready?"),
        (["plans", "--gpu-count", "two"], "'two' is not a whole number of at least 0"),
        (["plans", "extra"], "unexpected argument 'extra'"),
        (["--profile"], "expected the name of a profile"),
        (["destroy", "x"], "there is no command 'destroy'; do you mean terminate?"),
        (["deploy", "--name", "x"], "there is no option --name; write the NAME without an option"),
        (["ssh", "x", "nvidia-smi", "-L"], "there is no option -L; options of the COMMAND go behind --"),
    ],
)
def test_typos(cloud: Cloud, words: list[str], hint: str) -> None:
    done = cloud.run(*words)
    assert (done.code, done.out) == (2, "")
    assert hint in done.err
    assert "--help" in done.err.splitlines()[-1]


def test_name_typo(cloud: Cloud) -> None:
    cloud.deploy("train-1")
    assert "or id train1; do you mean train-1?" in cloud.run("show", "train1").err


# --- the catalogue ------------------------------------------------------------------------------------------


def test_gpus(cloud: Cloud) -> None:
    offers = cloud.ok("plans", "--json").json
    gpus = cloud.ok("gpus", "--json").json
    prices = [Decimal(gpu["from"]) for gpu in gpus]
    assert prices == sorted(prices)
    assert sum(gpu["offers"] for gpu in gpus) == len(offers)
    h200 = next(gpu for gpu in gpus if gpu["model"] == "h200")
    of_h200 = [offer for offer in offers if offer["gpu"]["model"] == "h200"]
    assert Decimal(h200["from"]) == min(Decimal(o["hourly"]) / o["gpu"]["count"] for o in of_h200)
    assert h200["locations"] == sorted({place for offer in of_h200 for place in offer["locations"]})
    done = cloud.run("gpus", "--gpu", "h1000")
    assert (done.code, "close to it: h100" in done.err) == (1, True)


def test_plans_are_sorted(cloud: Cloud) -> None:
    by_memory = [plan["memory_gib"] for plan in cloud.ok("plans", "--sort", "memory", "--json").json]
    assert by_memory == sorted(by_memory, reverse=True)
    by_gpu = [plan["gpu"]["model"] for plan in cloud.ok("plans", "-s", "gpu", "--json").json]
    assert by_gpu == sorted(by_gpu)


def test_nothing_fits_is_exit_code_1(cloud: Cloud) -> None:
    done = cloud.run("deploy", "x", "--gpu", "t5", *SSH)
    assert (done.code, cloud.live()) == (1, [])
    assert "nothing for rent fits" in done.err
    assert "  without --gpu t5: 1x t4" in done.err
    assert "problem" not in done.err
    done = cloud.run("deploy", "UPPER", "--gpu", "t5", *SSH)
    assert (done.code, "2 problems, nothing was deployed" in done.err) == (2, True)


def test_problems_name_flags(cloud: Cloud) -> None:
    lines = cloud.run("deploy", "UPPER", "-p", "22", "--command", "x" * 3000).err.splitlines()
    keys = [line.split(":")[0].strip() for line in lines[1:]]
    assert keys == ["--plan", "NAME", "--image", "--command"]
    done = cloud.run("sweep", "--dry-run")
    assert (done.code, "give --journal, --prefix or --older-than" in done.err) == (2, True)
    done = cloud.run("plans", "--min-vram", "80")
    assert (done.code, "--min-vram is a size with a unit, such as '32Gi'" in done.err) == (2, True)


# --- environment, accounts ----------------------------------------------------------------------------------


def test_env_file(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file := tmp_path / "vars.env").write_text("# comment\nA=1\nB=two words\n\nMINE\n")
    monkeypatch.setenv("MINE", "passed on")
    cloud.deploy("exp-1", "--env-file", str(file), "-e", "A=2")
    (instance,) = cloud.simulator.live()
    variables = dict(instance.settings.environment)  # type: ignore[attr-defined]
    assert {key: variables[key] for key in ("A", "B", "MINE")} == {
        "A": "2",
        "B": "two words",
        "MINE": "passed on",
    }
    file.write_text("A=1\nhunter2 is here\n")
    done = cloud.run("deploy", "exp-2", "--plan", cloud.plan(), *SSH, "--env-file", file)
    assert (done.code, "line 2 is not NAME=VALUE" in done.err, "hunter2" in done.err) == (2, True, False)


CONFIG = """
default = "home"
[profile.home]
key_file = "{directory}/key"
base_url = "http://127.0.0.1:{port}"
[profile.spare]
key_command = "cat {directory}/key"
base_url = "http://127.0.0.1:{port}"
[profile.down]
key_variable = "SPARE_KEY"
base_url = "http://127.0.0.1:9"
"""


@pytest.fixture
def accounts(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """A cloud whose key is in profiles only."""
    (tmp_path / "key").write_text("simulator-key\n")
    (tmp_path / "config.toml").write_text(CONFIG.replace("{directory}", str(tmp_path)).replace("{port}", "1"))
    monkeypatch.setenv("FLUENCE_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("SPARE_KEY", "simulator-key")
    monkeypatch.delenv("FLUENCE_API_KEY")
    return cloud


def test_profiles(accounts: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    done = accounts.ok("profiles")
    assert [line.split()[0] for line in done.out.splitlines()[1:]] == ["*", "spare", "down"]
    monkeypatch.setenv("FLUENCE_PROFILE", "spare")
    current = {row["name"]: row["current"] for row in accounts.ok("profiles", "--json").json}
    assert current == {"home": False, "spare": True, "down": False}
    assert accounts.ok("--profile", "down", "profiles", "--json").json[2]["current"]
    assert "simulator-key" not in done.out
    done = accounts.run("ls", "--profile", "nobody")
    assert (done.code, "there is home, spare, down" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ('[profile.a]\napi_key = "hunter2"', "this file holds no keys"),
        ("[profile.a]", "needs exactly one of key_file"),
        ('[profile.a]\nkey_fil = "x"', "key_fil: unknown"),
        ('default = "b"\n[profile.a]\nkey_file = "x"', "there is no profile 'b'"),
        ("no toml", "this is not TOML"),
        ('[profile.a]\nkey_file = "/nowhere"', "key_file /nowhere: No such file"),
        ('[profile.a]\nkey_command = "false"', "key_command false: failed"),
    ],
)
def test_a_wrong_configuration(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, problem: str
) -> None:
    (tmp_path / "config.toml").write_text(config)
    monkeypatch.setenv("FLUENCE_CONFIG", str(tmp_path / "config.toml"))
    done = cloud.run("--profile", "a", "ls")
    assert (done.code, problem in done.err, "hunter2" in done.err) == (2, True, False), done.err


def test_without_a_key(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLUENCE_API_KEY")
    done = cloud.run("ls")
    assert (done.code, done.out) == (2, "")
    assert "there is no API key: set FLUENCE_API_KEY" in done.err
    assert "api_key=" not in done.err


def test_a_service_that_is_down(accounts: Cloud) -> None:
    done = accounts.run("--profile", "down", "ls")
    assert done.code in (1, 124)
    first, *_ = done.err.splitlines()
    assert first.startswith("No reply from http://127.0.0.1:9 so far. Trying until ")


# --- completion ---------------------------------------------------------------------------------------------


def completed(cloud: Cloud, *words: str) -> list[str]:
    return [line.partition("\t")[0] for line in cloud.ok("--complete", *words).out.splitlines()]


def test_completion(accounts: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = accounts
    assert completed(cloud, "de") == ["deploy", "demo"]
    assert completed(cloud, "deploy", "x", "--dr") == ["--dry-run"]
    assert completed(cloud, "wait", "x", "--until", "") == ["active", "ready", "reachable"]
    assert completed(cloud, "--profile", "s") == ["spare"]
    assert completed(cloud, "completion", "") == ["bash", "zsh", "fish"]
    assert completed(cloud, "ssh", "x", "--", "n") == []
    monkeypatch.setenv("FLUENCE_API_KEY", "simulator-key")
    cloud.deploy("exp-1")
    cloud.deploy("exp-2")
    assert completed(cloud, "logs", "exp-1", "e") == ["exp-2"]
    assert completed(cloud, "deploy", "x", "--gpu", "h1") == ["h100"]
    assert "pytorch-2-6" in completed(cloud, "deploy", "x", "--image", "")
    assert completed(cloud, "deploy", "x", "--plan", "t4-")[0].startswith("t4-16gi")
    assert completed(cloud, "--profile", "down", "show", "e") == [], "a service that is down is no error"
    assert completed(cloud, "deploy", "x", "--gpu=h1") == ["--gpu=h100"]
    assert completed(cloud, "deploy", "x", "--gpu", "=", "h1") == ["h100"], "as bash splits it"
    assert completed(cloud, "logs", "exp-1", "--output-dir", "l") == [":files"]


def test_every_parameter_has_a_help_text() -> None:
    for verb in VERBS:
        assert summary_of(function_of(verb)).endswith(".")
        if verb != "simulator":
            assert all(each.help.endswith((".", "]")) for each in parameters_of(function_of(verb))), verb


# --- watching, logs -----------------------------------------------------------------------------------------


def test_ls_watch_prints_changes(cloud: Cloud) -> None:
    cloud.ok("deploy", "exp-1", "--plan", cloud.plan(), *SSH, "--no-wait")
    cloud.during = lambda loop: loop.call_later(300, signal.raise_signal, signal.SIGINT)
    done = cloud.run("ls", "--watch")
    assert done.code == 130
    words = [line.split()[:3] for line in done.out.splitlines()]
    assert words == [["exp-1", "container", "INITIALIZED"], ["exp-1", "container", "ACTIVE"]]
    assert cloud.run("ls", "--watch", "--json").code == 2


def test_log_files_are_continued(cloud: Cloud, tmp_path: Path) -> None:
    cloud.simulator.cluster = ClusterOptions(log_interval=None)
    ids = {name: cloud.deploy(name)["id"] for name in ("exp-1", "exp-2")}
    directory = tmp_path / "logs"

    def follow(*lines: str) -> dict[str, list[str]]:
        def during(loop: asyncio.AbstractEventLoop) -> None:
            for id in ids.values():
                loop.call_later(20, cloud.simulator.print, id, *lines)
            loop.call_later(90, signal.raise_signal, signal.SIGINT)

        cloud.during = during
        assert cloud.run("logs", "-f", *ids, "--output-dir", directory).code == 130
        files = {name: directory / f"{name}.{id[:8]}.log" for name, id in ids.items()}
        return {name: file.read_text().splitlines() for name, file in files.items()}

    first = follow("one", "two")
    assert all(lines[-2:] == ["one", "two"] for lines in first.values())
    for id in ids.values():
        cloud.simulator.print(id, "while nothing followed")
    second = follow("three")
    for name, lines in second.items():
        assert lines == [*first[name], "while nothing followed", "three"]
    (directory / f"exp-1.{ids['exp-1'][:8]}.log").write_text("from another log\n")
    assert follow()["exp-1"][:2] == [
        "from another log",
        "--- a new run continues here; lines may be missing",
    ]
