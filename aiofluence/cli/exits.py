"""How a command ends: its exit code, and a few plain lines on stderr about what went wrong.

The one home of both. A bug of ours keeps its traceback; everything else never shows one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Final

import aiofluence

from .output import give_up_stdout, is_closed
from .printable import printable

REACHED: Final = 0
FAILED: Final = 1
USAGE: Final = 2
TIMED_OUT: Final = 124
INTERRUPTED: Final = 130


class CommandError(Exception):
    """What a command finds wrong by itself.

    Attributes:
        code: the exit code; 2 when the command line or a file makes no sense.
    """

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def refusal(problems: Sequence[str], consequence: str) -> CommandError:
    """What is wrong with what was asked for, all of it at once."""
    head = f"{len(problems)} problem(s), {consequence}:"
    return CommandError("\n".join([head, *problems]), USAGE)


def code_of(error: BaseException) -> int:
    """The exit code that belongs to one error."""
    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, aiofluence.ConfigError | aiofluence.SpecError):
        return USAGE
    return TIMED_OUT if isinstance(error, aiofluence.WaitTimeoutError) else FAILED


def explain(error: BaseException, command: str = "aiofluence") -> int:
    """Say what went wrong, and give the exit code; what is no failure but a bug is raised again.

    Raises:
        BaseException: `error`, if it is a bug.
    """
    causes = list(leaves(error))
    if any(isinstance(cause, BrokenPipeError) for cause in causes):
        # The reader has left, as `| head` does. Python flushes stdout once more when it exits.
        give_up_stdout()
        if is_closed(1):
            print(f"{command}: stdout is closed, and the result could not be written", file=sys.stderr)
        return FAILED
    if not all(isinstance(cause, aiofluence.FluenceError | CommandError | OSError) for cause in causes):
        raise error
    for cause in causes:
        for line in told(cause, command):
            print(printable(line), file=sys.stderr)
    codes = {code_of(cause) for cause in causes}
    return codes.pop() if len(codes) == 1 else FAILED


def told(error: BaseException, command: str) -> Iterator[str]:
    """One error in a few lines."""
    if isinstance(error, aiofluence.CustodyError):  # the library's log has already said what is left
        yield f"{command}: not everything could be ended. End it with:"
        yield from how_to_end([ref.id for ref in error.refs], error.names)
        return
    kind = "" if isinstance(error, CommandError) else f"{type(error).__name__}: "
    first, *rest = str(error).splitlines() or ["no details"]
    yield f"{command}: {kind}{first}"
    for line in rest:
        yield f"  {line.strip()}"
    if isinstance(error, aiofluence.UncertainDeployError):
        yield f"  look for it with: aiofluence ls; end it with: aiofluence sweep --prefix {error.name}"


def how_to_end(ids: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """The commands that end what is left."""
    if ids:
        yield f"  aiofluence terminate --yes {' '.join(ids)}"
    for name in names:
        yield f"  aiofluence sweep --prefix {name}"


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in an ExceptionGroup, in order; one that is no group is its own only leaf."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
