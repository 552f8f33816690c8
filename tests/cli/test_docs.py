"""docs/cli.md and the tutorial are what the commands do: their examples are run in order, and
the tables of options are made of the options.

`UPDATE_DOCS=1 pytest tests/cli/test_docs.py` writes the pages anew, for a person to read the difference.
A line `...` in an example stands for lines that are left out.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from aiofluence.cli.arguments import parameters_of
from aiofluence.cli.verbs import VERBS, function_of

from .conftest import Cloud

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = re.compile(r"```console\n(.*?)```\n", re.DOTALL)
TOML = re.compile(r"```toml\n# (\S+)\n(.*?)```", re.DOTALL)
OPTIONS = re.compile(r"(<!-- options of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
# What the simulator draws: ids, hosts, ports, places, times, lines of a log. And who of several was first.
DRAWN = re.compile(
    r"[0-9a-f]{8}-[0-9a-f-]{27}|\b[0-9a-f]{8}$|\w+(?=\.provider)|provider-\d+|\b3\d{4}\b|203\.0\.113\.\d+"
    r"|\blab-\d\d\b|\b\d+:\d\d(:\d\d)?\b|\b\d+m\b|\b[A-Z]{2}\b|service-1-[a-z0-9-]+|step \d+ loss.*"
)
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJd9 someone@example.org\n"


def table(verb: str) -> str:
    """The arguments and options of a verb, as a table in Markdown."""
    rows = ["| | |", "|---|---|"]
    for parameter in parameters_of(function_of(verb)):
        what, text = (part.replace("|", "\\|") for part in (parameter.spelling, parameter.help))
        rows.append(f"| `{what}` | {text} |")
    return "\n".join(rows) + "\n"


def retryable(cloud: Cloud, text: str) -> str:
    """Return the command behind each `$` in an example, and its output."""
    out = []
    for command, *shown in (part.splitlines() for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]):
        out.append(f"$ {command}")
        words = shlex.split(command, comments=True)
        if words[0] != "aiofluence":
            continue
        done = cloud.run(*words[1:])
        printed = (done.err + done.out).splitlines()
        if done.code:
            printed.append(f"(exit code {done.code})")
        out += elided(printed, shown) if "..." in shown else printed
    return "".join(f"{line}\n" for line in out)


def elided(printed: list[str], shown: list[str]) -> list[str]:
    """Of the lines that were printed, as many and in those places as the page shows."""
    parts = [part.splitlines() for part in re.split(r"^\.\.\.$\n?", "\n".join(shown), flags=re.MULTILINE)]
    first, *middle, last = parts
    out, at = printed[: len(first)], len(first)
    for part in middle:
        begin = DRAWN.sub("*", part[0])
        at = next((i for i in range(at, len(printed)) if DRAWN.sub("*", printed[i]) == begin), at)
        out += ["...", *printed[at : at + len(part)]]
    return [*out, "...", *printed[len(printed) - len(last) :]]


def written_anew(cloud: Cloud, page: str) -> str:
    for name, text in TOML.findall(page):
        Path(name).write_text(text)
    page = EXAMPLE.sub(lambda found: f"```console\n{retryable(cloud, found[1])}```\n", page)
    return OPTIONS.sub(lambda found: found[1] + table(found[2]) + found[3], page)


def comparable(page: str) -> list[str]:
    """The page's lines, in any order and without what is drawn at random."""
    return sorted(DRAWN.sub("*", line) for line in page.splitlines())


@pytest.mark.parametrize(("name", "time_scale"), [("cli.md", 1), ("tutorial.md", 3)])
def test_the_page_is_what_commands_print(
    name: str, time_scale: float, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", "hunter2")
    Path("id.pub").write_text(SSH_KEY)
    cloud.time_scale = time_scale
    page = (DOCS / name).read_text(encoding="utf-8")
    anew = written_anew(cloud, page)
    if "UPDATE_DOCS" in os.environ:
        (DOCS / name).write_text(anew, encoding="utf-8")
    assert comparable(anew) == comparable(page)


def test_the_page_has_every_command() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    documented = [found[2] for found in OPTIONS.finditer(page)]
    assert documented == [name for name in VERBS if name != "simulator"]
