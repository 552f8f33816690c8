"""`python -m aiofluence.simulator`: the simulated service on a port of this machine.

It prints the two variables that direct a client to it, and runs until Ctrl-C or SIGTERM. With a command, it
controls a simulator that runs; see `commands`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import signal
import sys
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from .commands import ControlError, add_commands, run_command
from .local_processes import LocalProcesses
from .observed import Observed, read_observations
from .profile import DEFAULT_PROFILE, PRESETS, Profile
from .server import SimulatorServer, is_loopback
from .simulator import DEFAULT_API_KEY, Simulator

_PROGRAM = "python -m aiofluence.simulator"


def main(arguments: Sequence[str] | None = None, program: str = _PROGRAM) -> int:
    """Run under the name `program`. Return the exit code: 0, 1 after a refusal, 2 if it cannot listen."""
    parser = _parser(program)
    options = parser.parse_args(arguments)
    if options.command is not None:
        try:
            lines = run_command(options)
        except ControlError as error:
            print(error, file=sys.stderr)
            return 1
        for line in lines:
            print(line)
        return 0
    if not options.allow_remote and not is_loopback(options.host):
        parser.error(f"{options.host} is not loopback; --allow-remote opens the simulator to others")
    if options.exec and not is_loopback(options.host):
        parser.error(f"{options.host} is not loopback, and --exec is for this machine alone")
    try:
        # If the loop cannot handle signals itself, Ctrl-C arrives as KeyboardInterrupt.
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(options))
    except OSError as error:
        # The message of asyncio repeats the address around the cause.
        reason = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error
        print(
            f"cannot listen on {options.host} port {options.port}: {reason}; --port 0 picks a free one",
            file=sys.stderr,
        )
        return 2
    return 0


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError, AttributeError):  # Windows
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        # Child processes would survive the terminal. Under `nohup`, SIGHUP is ignored and stays ignored.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, stop.set)
    observed: Observed = options.observations
    for claim in observed.left_out:
        print(f"no option imitates what was observed of the claim {claim}", file=sys.stderr)
    simulator = Simulator(
        options.seed,
        # The default key is public. With --exec it would let every local user run programs as us.
        api_key=secrets.token_urlsafe() if options.exec else DEFAULT_API_KEY,
        balance=options.balance,
        profile=Profile.of(options.profile)
        .replace(provisioning={"failure_rate": options.failure_rate})
        .replace(**observed.profile),
        list_lag=observed.list_lag,
        rate_limit=observed.rate_limit,
    )
    async with SimulatorServer(
        simulator,
        options.host,
        options.port,
        options.time_scale,
        allow_remote=options.allow_remote,
        processes=LocalProcesses(options.max_children) if options.exec else None,
    ) as server:
        print(f"export FLUENCE_API_KEY={simulator.api_key}")
        print(f"export FLUENCE_BASE_URL={server.url}", flush=True)
        await stop.wait()
        for text in simulator.warnings():
            print(f"warning: {text}", file=sys.stderr)


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Simulate the Fluence GPU Cloud on a port of this machine. It costs nothing. "
        "A command controls a simulator that runs.",
    )
    parser.add_argument("--port", type=_port, default=8080, help="0 picks a free one (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--time-scale",
        type=_positive,
        default=1.0,
        metavar="N",
        help="simulated seconds in one real second (default: 1)",
    )
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal runs (default: 0)")
    parser.add_argument(
        "--balance", type=_money, default=Decimal(1000), help="USDC on the account (default: 1000)"
    )
    parser.add_argument(
        "--profile",
        choices=list(PRESETS),
        default=DEFAULT_PROFILE,
        help="habits of the service where its documents are silent (default: %(default)s)",
    )
    parser.add_argument(
        "--observations",
        type=_observations,
        default=Observed({}),
        metavar="FILE",
        help="behave as `aiofluence conformance` has observed the service",
    )
    parser.add_argument(
        "--failure-rate",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="share of provisionings that fail, 0 to 1 (default: 0)",
    )
    parser.add_argument("--allow-remote", action="store_true", help="permit a host that is not loopback")
    parser.add_argument(
        "--exec",
        action="store_true",
        help="run the containers' startup commands as processes of this machine; there is no sandbox",
    )
    parser.add_argument(
        "--max-children",
        type=_count,
        default=16,
        metavar="N",
        help="with --exec: greatest number of containers at once (default: 16)",
    )
    add_commands(parser)
    return parser


def _observations(path: str) -> Observed:
    try:
        return read_observations(path)
    except (ValueError, OSError) as error:
        raise argparse.ArgumentTypeError(f"{error}") from None


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return number


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return number


def _money(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount") from None
    if not amount.is_finite():
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount")
    return amount


if __name__ == "__main__":
    sys.exit(main())
