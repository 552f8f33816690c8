"""The command `aiofluence`, which delegates to `app`.

Importing it loads nothing else, so that `import aiofluence` stays cheap.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code. docs/cli.md lists the codes."""
    if arguments is None:
        arguments = sys.argv[1:]
        # The process is this command's. Its modules are 60,000 objects, none of them garbage. To search them
        # again and again, and once more at exit, would take a quarter of the time of a short command.
        gc.set_threshold(100_000)
        atexit.register(gc.freeze)
    try:
        return _run(arguments)
    except KeyboardInterrupt:  # Ctrl-C before the command began
        return 130


def _run(arguments: Sequence[str]) -> int:
    from .app import run
    from .console import finish, prepare

    prepare()
    code: object = 0
    try:
        code = run(arguments)
        if not code:
            sys.stdout.flush()  # so that a full disk is an error with a message
    except SystemExit as leaving:  # after SIGTERM and SIGHUP
        code = leaving.code
    except OSError as error:  # a help text that cannot be written, such as to a full disk
        from .exit_codes import explain

        code = explain(error)
    unwritten = finish()
    return code if isinstance(code, int) and code else unwritten
