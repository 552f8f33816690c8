"""`simulator` and `demo`: the service without key and cost, to try the library.

This module defines the options only. The work is in `simulator.__main__` and `cli.demo`.
"""

from __future__ import annotations

from typing import Annotated

import typer


def _speed(text: str | float) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 1 <= speed <= 500:
        raise typer.BadParameter(f"{text!r} is not a number from 1 to 500")
    return speed


def demo(
    speed: Annotated[
        float,
        typer.Option(parser=_speed, metavar="X", help="Simulated seconds per real second, 1 to 500."),
    ] = 35.0,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Equal seeds give equal provisioning times and logs.")
    ] = 0,
    run_commands: Annotated[
        bool, typer.Option("--exec", help="Run the containers' commands as processes on this machine.")
    ] = False,
) -> None:
    """Show the whole library in twenty seconds, without key or cost.

    Launch containers and a VM, wait for them, read logs and events, update a container, see the bill, and
    end everything. All requests are real HTTP on this machine, against a simulated Fluence GPU Cloud: no
    key, no cost, no network.
    """
    from ..demo import demo as play

    raise typer.Exit(play(speed, seed, run_commands=run_commands))


def simulator(context: typer.Context) -> None:
    """Serve the simulated cloud on this machine: --port 8080. Commands control it: sell-out, balance."""
    from ...simulator.__main__ import main

    raise typer.Exit(main(context.args, program="aiofluence simulator"))
