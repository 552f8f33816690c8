"""The conversion of flags or a file to priced orders, at current prices.

It fetches the catalogue and deploys nothing. `batch_file` checks the orders.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiofluence

from ..models.money import exact, total
from ..models.values import Kind
from .ages import ServiceTime
from .console import Column, note, print_json, print_table, say
from .exit_codes import FAILED, USAGE, CommandError
from .json_output import order_shape, refs_shape

if TYPE_CHECKING:  # imported on demand, since help and completion do not need them
    from ..models.plans import Offer
    from .batch_file import Item, Orders


_CAPACITY_INTERVAL: Final = 15.0
"""Seconds between two requests of the plans while none fits, as in the library."""
_PROVISIONING: Final = timedelta(minutes=2)
"""Time from deploy to ACTIVE of a machine (119 s in the service's guide)."""


def given_by_flags(**flags: Any) -> dict[str, Any]:
    """Return flags as keys of the TOML format, without those that were not given."""
    return {key: value for key, value in flags.items() if value is not None}


def variables(env: Sequence[str] | None, env_file: Path | None = None) -> dict[str, Any]:
    """Return `--env` as keys of the TOML format: `NAME=VALUE` sets a variable, `NAME` passes yours on.

    The lines of `env_file` come first, so that `--env` replaces them.

    Raises:
        CommandError: the file cannot be read.
    """
    lines = [] if env_file is None else _read_env_file(env_file)
    pairs = [text.partition("=") for text in (*lines, *(env or ()))]
    return given_by_flags(
        environment={name: value for name, equals, value in pairs if equals} or None,
        pass_environment=[name for name, equals, _ in pairs if not equals] or None,
    )


def _read_env_file(file: Path) -> list[str]:
    """Return the lines with variables. As for docker: no quotes, and `#` begins a comment line."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise CommandError(f"--env-file: {file}: {reason}", USAGE) from None
    found = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    for number, line in found:
        if not (line.startswith("#") or line.partition("=")[0].strip().isidentifier()):
            # The line itself may hold a secret.
            raise CommandError(f"--env-file: {file}: line {number} is not NAME=VALUE", USAGE)
    return [line for _, line in found if not line.startswith("#")]


def registry_login(host: str | None, user: str | None) -> dict[str, str] | None:
    """Return `--registry` and `--registry-user` as `credentials` of the TOML format."""
    if host is None and user is None:
        return None
    return {"host": host or "", "username": user or "", "password_variable": "FLUENCE_REGISTRY_PASSWORD"}


def read_orders(file: Path | None, given: dict[str, Any], gpu: Sequence[str] | None = None) -> Orders:
    """Return the orders in `file`, changed by `given`. Without a file, `given` is the only order.

    `gpu` has GPU models for the instances that name neither a plan nor a GPU.

    Raises:
        CommandError: the file cannot be read, or is not TOML.
    """
    from .batch_file import Orders

    orders = Orders()
    if file is None:
        orders.add(given)
        return orders
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise CommandError(f"{file}: {reason}", USAGE) from None
    try:
        orders.read_toml(text, given, gpu)
    except CommandError as error:
        raise CommandError(f"{file}: {error}", error.code) from None
    return orders


async def priced(
    fluence: aiofluence.Session,
    orders: Orders,
    fallback: Sequence[str] = (),
    others: Callable[[int], Iterable[str]] = lambda _: (),
    capacity: float | None = None,
) -> tuple[list[Item], list[Offer], list[Offer]]:
    """Return the items to deploy, all offers, and the offers that `fallback` names by plan or GPU model.

    `others` yields further problems of the command, given the number of instances. If only capacity is
    missing, the plans are requested again for `capacity` seconds.

    Raises:
        CommandError: an order is invalid or not for rent. The error names every problem.
        FluenceError: the catalogue could not be fetched.
    """
    loop = asyncio.get_running_loop()
    until, is_waiting = loop.time() + (capacity or 0.0), False
    images = await fluence.images.list() if orders.wants_images else []
    while True:
        offers = await fluence.plans.find()
        found = {each: _alternatives(offers, each) for each in fallback}
        missing = [
            f"--fallback: no plan or GPU {each!r} is for rent now" for each, some in found.items() if not some
        ]
        try:
            # A copy, since orders collect their problems.
            items = deepcopy(orders).price(offers, images, lambda count: [*missing, *others(count)])  # noqa: B023
        except CommandError as error:
            if error.code != FAILED or loop.time() + _CAPACITY_INTERVAL > until:
                raise
            if not is_waiting:
                is_waiting = True
                end = datetime.now() + timedelta(seconds=until - loop.time())
                note(f"{str(error).splitlines()[0]}. Trying again until {end:%H:%M:%S}; Ctrl-C gives up.")
            await asyncio.sleep(_CAPACITY_INTERVAL)
            continue
        counts = {item.offer.gpu_count for item in items}
        named = [offer for some in found.values() for offer in some if offer.gpu_count in counts]
        return items, offers, named


def _alternatives(offers: Sequence[Offer], text: str) -> list[Offer]:
    """Return the offers that `--fallback` names: those of a plan, else of a GPU model, cheapest first."""
    from ..resources.offers import Wanted
    from .batch_file import fitting_plans

    return fitting_plans(offers, text) or list(Wanted.of({"gpu": text}).choose(offers))


async def show_order(
    fluence: aiofluence.Session,
    items: Sequence[Item],
    as_json: bool,
    adopted: Sequence[aiofluence.InstanceRef] = (),
) -> None:
    """Print the instances that would be deployed or adopted, their prices, and the balance if it is known."""
    from ..models.spending import MINIMUM_RUNTIME
    from ..resources.account import known_balance

    time = ServiceTime()
    balance = await known_balance(fluence.with_options(on_reply=time.note).account)
    live = {(ref.kind, ref.name): ref for ref in adopted}
    missing = [item for item in items if (item.spec.kind, item.spec.name) not in live]
    hourly = total(item.offer.hourly for item in missing)
    upfront = total(item.offer.upfront for item in missing)
    least = _least(missing, time)
    if as_json:
        print_json(
            {
                "dry_run": True,
                "instances": [order_shape(item.spec, item.offer) for item in missing],
                "adopted": refs_shape(adopted),
                "hourly": str(hourly),
                "upfront": str(upfront),
                "least": str(least),
                "currency": items[0].offer.currency,
                "balance": None if balance is None else str(balance.balance),
            }
        )
        return
    head = (
        Column("NAME"),
        Column("KIND", drop=1),
        Column("PLAN", fold=True),
        Column("USDC/H", right=True),
        Column("UPFRONT", right=True),
    )
    rows = [
        (spec.name, spec.kind, offer.name, f"{offer.hourly:f}", f"{offer.upfront:f}")
        for spec, offer in ((item.spec, item.offer) for item in missing)
    ]
    if rows:
        print_table(head, rows)
    for ref in adopted:
        say(f"{ref} is live and would be taken")
    say(
        f"{len(missing)} to deploy: {hourly:f} USDC an hour; {upfront:f} would be taken at once, "
        "the first hour spent and the rest reserved."
    )
    if any(item.spec.kind is not Kind.CONTAINER for item in missing):
        say(
            f"The service ends a machine only after {MINIMUM_RUNTIME // 60:.0f} minutes of runtime: "
            f"ended as soon as possible, these instances cost {least:f} USDC."
        )
    if balance is not None and upfront > balance.balance:
        say(f"The balance of {balance.balance:f} USDC cannot pay that. Nothing was deployed.")
    elif balance is not None:
        say(f"Nothing was deployed{balance.lasts(hourly)}.")
    else:
        say("Nothing was deployed.")


@exact()
def _least(items: Iterable[Item], time: ServiceTime) -> Decimal:
    """Return the price of the items if each ends as soon as possible: machines after the minimum runtime."""
    from ..models.spending import MINIMUM_RUNTIME, hours_begun

    of_machine = 2  # when the service's time is not known
    if time.now is not None:
        end = time.now + _PROVISIONING + timedelta(seconds=MINIMUM_RUNTIME)
        of_machine = hours_begun(time.now, end)
    return total(
        item.offer.hourly * (1 if item.spec.kind is Kind.CONTAINER else of_machine) for item in items
    )
