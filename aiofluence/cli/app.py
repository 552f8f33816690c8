"""The command line as typer sees it: which commands there are, in which order, and what all of them share.

Loads without aiohttp, so that help and shell completion are quick; what a command does stands in the
modules that it gathers.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Final

import typer

from .commands import (
    change as changing,
    demo as playing,
    deploy as launching,
    logs as tails,
    plans as catalogue,
    show as looking,
)

app: typer.Typer = typer.Typer(
    name="aiofluence",
    help="The Fluence GPU Cloud from the command line. The key is in FLUENCE_API_KEY, or in the file that "
    "FLUENCE_API_KEY_FILE names.",
    epilog="Exit codes: 0 reached, 1 failed, 2 wrong usage, 124 timed out, 130 interrupted "
    "(143 by SIGTERM, 129 by SIGHUP).",
    no_args_is_help=True,
    # Plain text: the same on every terminal, in a pipe and in the documentation.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"aiofluence {version('aiofluence')}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


_COMMANDS: Final[tuple[Callable[..., None], ...]] = (
    catalogue.plans,
    catalogue.images,
    catalogue.account,
    launching.deploy,
    launching.launch,
    looking.ls,
    looking.show,
    looking.wait,
    tails.logs,
    tails.events,
    changing.update,
    changing.rename,
    changing.terminate,
    changing.sweep,
    looking.ssh,
    looking.inventory,
    playing.demo,
)
for _command in _COMMANDS:
    app.command()(_command)
# The simulator has a command line of its own, which is handed what stands behind its name.
app.command(
    add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)(playing.simulator)
