"""The typer application: the commands, their order, and the options that all of them share.

Loads without aiohttp, so that help and shell completion are quick. The commands themselves are in `commands`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Final

import typer

from .commands import change, conformance, demo, deploy, logs, plans, show

app: typer.Typer = typer.Typer(
    name="aiofluence",
    help="The Fluence GPU Cloud from the command line. The key is in FLUENCE_API_KEY, or in the file that "
    "FLUENCE_API_KEY_FILE names.",
    epilog="Exit codes: 0 reached, 1 failed, 2 wrong usage, 124 timed out, 130 interrupted "
    "(143 by SIGTERM, 129 by SIGHUP).",
    no_args_is_help=True,
    # Plain text is the same on every terminal, in a pipe and in the documentation.
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
    plans.plans,
    plans.images,
    plans.account,
    deploy.deploy,
    deploy.launch,
    show.ls,
    show.show,
    show.wait,
    logs.logs,
    logs.events,
    change.update,
    change.rename,
    change.terminate,
    change.sweep,
    show.ssh,
    show.inventory,
    conformance.conformance,
    demo.demo,
)
for _command in _COMMANDS:
    app.command()(_command)
# The simulator parses its own command line: all arguments after its name.
app.command(
    add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)(demo.simulator)
