"""The end of a command: its exit code, and a few plain lines on stderr about errors.

All exit codes are defined here. A bug of the library shows its traceback, and no other error does.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import aiofluence

from .console import give_up_stdout, is_closed, note

REACHED: Final = 0
FAILED: Final = 1
USAGE: Final = 2
TIMED_OUT: Final = 124
INTERRUPTED: Final = 130


_ARGUMENT: Final = re.compile(
    r"\b(kind|gpu|gpu_count|location|max_hourly|min_cpus|min_memory|min_storage|min_vram|provider|min_ready)"
    r"(?:=([^\s,:]+)|( is (?:a |an |one of )))"
)
_KEY: Final = re.compile(r"^[a-z_]+(?=(\.[a-z]+)?:)")
_FLAGS: Final = {
    "name": "NAME",
    "startup_command": "--command",
    "environment": "--env",
    "pass_environment": "--env",
    "credentials": "--registry",
}
"""The flags whose spelling is not that of the key in a TOML file."""


class CommandError(Exception):
    """A problem that the command itself has found.

    Attributes:
        code: the exit code; 2 if the command line or a file is invalid.
    """

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def refusal(problems: Sequence[str], consequence: str, code: int = USAGE) -> CommandError:
    """Return one error with all problems of a request."""
    if len(problems) == 1:
        return CommandError(f"{problems[0]}\n{consequence}", code)
    return CommandError("\n".join([f"{len(problems)} problems, {consequence}:", *problems]), code)


def code_of(error: BaseException) -> int:
    """Return the exit code of one error."""
    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, aiofluence.ConfigError | aiofluence.SpecError):
        return USAGE
    return TIMED_OUT if isinstance(error, aiofluence.WaitTimeoutError) else FAILED


def explain(error: BaseException, command: str = "aiofluence", *, journal: Path | None = None) -> int:
    """Print the errors and return the exit code. A bug of the library is raised again.

    Raises:
        BaseException: `error`, if it is a bug.
    """
    causes = list(leaves(error))
    if any(isinstance(cause, BrokenPipeError) for cause in causes):
        # The reader has left, as `| head` does. Python would flush stdout once more at exit.
        give_up_stdout()
        if is_closed(1):
            print(f"{command}: stdout is closed, and the result could not be written", file=sys.stderr)
            return FAILED
        return REACHED
    if not all(isinstance(cause, aiofluence.FluenceError | CommandError | OSError) for cause in causes):
        raise error
    for cause in causes:
        for line in told(cause, command, journal):
            note(line)
    codes = {code_of(cause) for cause in causes}
    return codes.pop() if len(codes) == 1 else FAILED


def told(error: BaseException, command: str, journal: Path | None = None) -> Iterator[str]:
    """Yield one error as a few lines."""
    if isinstance(error, aiofluence.CustodyError):
        yield f"{command}: not everything could be ended."
        yield from how_to_end(error.refs, error.names, journal)
        return
    text = str(error) if isinstance(error, CommandError) else in_flags(str(error))
    first, *rest = text.splitlines() or [type(error).__name__]
    yield f"{command}: {first}"
    for line in rest:
        yield f"  {line.strip()}"
    if isinstance(error, aiofluence.UncertainDeployError):
        yield f"  find it with: aiofluence ls; end it with: aiofluence sweep --prefix {error.name}"


def in_flags(text: str) -> str:
    """Write the arguments of the library in an error text as flags: `min_vram=80Gi` as `--min-vram 80Gi`."""

    def flag(found: re.Match[str]) -> str:
        value = f" {found[2]}" if found[2] else found[3] or ""
        return f"--{found[1].replace('_', '-')}{value}"

    return _ARGUMENT.sub(flag, text).replace(" or None", "")


def key_as_flag(problem: str) -> str:
    """Write the key at the beginning of a problem as a flag: `ssh_key: required` as `--ssh-key: required`."""
    return _KEY.sub(lambda key: _FLAGS.get(key[0], f"--{key[0].replace('_', '-')}"), problem, count=1)


def how_to_end(
    refs: Sequence[aiofluence.InstanceRef], names: Sequence[str], journal: Path | None = None
) -> Iterator[str]:
    """Yield everything that may still be running, and the commands that end it."""
    refs = sorted(refs, key=lambda ref: (ref.name, ref.id))
    things = [str(ref) for ref in refs]
    if names:
        things.append(f"what came of deploying {', '.join(names)} is not known")
    yield f"This may still be running, and billing: {', '.join(things)}. End it with:"
    if journal is not None:  # the journal has every deploy of this run, even if no list shows it yet
        yield f"  aiofluence sweep --journal {shlex.quote(str(journal))}"
        return
    if refs:
        yield f"  aiofluence terminate --yes {' '.join(ref.id for ref in refs)}"
    for name in names:
        yield f"  aiofluence sweep --prefix {name}"


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors of an ExceptionGroup, in order; any other error yields itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
