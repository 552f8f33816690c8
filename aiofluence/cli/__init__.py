"""The command `aiofluence`: reads the command line and starts what it names.

Everything else is imported when it is needed, so that `import aiofluence` never loads the extra `cli`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

__all__ = ["main"]

_DEMO = """\
Launch containers and a VM, wait for them, read logs and events, update one, see the bill, and give
everything back. All of it happens over real HTTP on this machine, against a simulated Fluence GPU Cloud:
no key, no cost, no network, a quarter of a minute."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 when it failed, 2 when it cannot start, 130 on Ctrl-C."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        import rich  # noqa: F401 - asked for here, so that there is one place that explains its absence
    except ModuleNotFoundError:
        print("the command line needs an extra: pip install 'aiofluence[cli]'", file=sys.stderr)
        return 2
    if options.command is None:
        parser.print_help(sys.stderr)
        return 2

    from .demo import demo

    return demo(options.speed, options.seed, run_commands=options.exec)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aiofluence", description="The Fluence GPU Cloud from the command line."
    )
    parser.add_argument("--version", action="version", version=f"aiofluence {version('aiofluence')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    demo = commands.add_parser(
        "demo", help="the whole library in 15 seconds, without key or cost", description=_DEMO
    )
    demo.add_argument(
        "--speed",
        type=_speed,
        default=35.0,
        metavar="X",
        help="simulated seconds in one real second, 1 to 500 (default: 35)",
    )
    demo.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="equal seeds give equal provisioning times and logs (default: 0)",
    )
    demo.add_argument(
        "--exec", action="store_true", help="run the containers' commands as processes of this machine"
    )
    return parser


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 1 <= speed <= 500:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 500")
    return speed
