"""The command `aiofluence`: checks for the extra `cli`, then delegates to `app`.

All other modules are imported on demand, so that `import aiofluence` never loads the extra.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code. docs/cli.md lists the codes."""
    try:
        return _run(arguments)
    except KeyboardInterrupt:  # Ctrl-C before the command began
        return 130


def _run(arguments: Sequence[str] | None) -> int:
    try:
        import rich  # noqa: F401 - imported here, so that one place explains a missing extra
        import typer
    except ModuleNotFoundError:
        print("the command line needs an extra: pip install 'aiofluence[cli]'", file=sys.stderr)
        return 2

    from .app import app
    from .console import finish, prepare
    from .exit_codes import explain

    prepare()
    # Not `app()`: that would replace the interpreter's hook for uncaught exceptions.
    command = typer.main.get_command(app)
    code: object = 0
    try:
        command(args=arguments, prog_name="aiofluence")
    except SystemExit as leaving:
        code = leaving.code
    except OSError as error:  # typer could not write its own output, such as a help text to a full disk
        code = explain(error)
    unwritten = finish()
    return code if isinstance(code, int) and code else unwritten
