"""The completion scripts in the shells that they are for."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from aiofluence.cli.completion import SCRIPTS

BASH = """
{script}
COMP_WORDS=({words}) COMP_CWORD=$(({count} - 1))
compopt() {{ echo FILES; }}
_aiofluence
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
ZSH = """
compdef() {{ :; }}
compadd() {{ print -l -- $names; }}
_files() {{ echo "FILES"; }}
{script}
words=({words}) CURRENT={count}
_aiofluence
"""
FISH = """
{script}
complete -C "{line}"
"""
PROGRAMS = {"bash": ("bash", "--norc", "-c"), "zsh": ("zsh", "-f", "-c"), "fish": ("fish", "-N", "-c")}
TEMPLATES = {"bash": BASH, "zsh": ZSH, "fish": FISH}


@pytest.mark.parametrize("shell", SCRIPTS)
def test_completion_in_a_shell(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}; on Debian: apt-get install {shell}")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "aiofluence"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m aiofluence "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "my.toml").write_text("")

    def completed(*words: str) -> list[str]:
        quoted = " ".join(f"'{word}'" for word in words)
        code = TEMPLATES[shell].format(
            script=SCRIPTS[shell], words=quoted, count=len(words), line=" ".join(words)
        )
        env = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
        found = subprocess.run(
            [*PROGRAMS[shell], code], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert found.stderr == ""
        return [line.partition("\t")[0] for line in found.stdout.splitlines() if line]

    assert sorted(completed("aiofluence", "de")) == ["demo", "deploy"]
    assert completed("aiofluence", "ls", "--ki") == ["--kind"]
    parts, result = (["--kind", "=", "v"], "vm") if shell == "bash" else (["--kind=v"], "--kind=vm")
    assert completed("aiofluence", "ls", *parts) == [result]
    files = completed("aiofluence", "launch", "my")
    assert files[0] == ("my.toml" if shell == "fish" else "FILES")
    assert completed("aiofluence", "deploy", "x", "--min-cpus", "") == [], "no files in place of a number"
