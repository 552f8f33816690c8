"""`ls`, `show`, `wait`, `ssh` and `inventory`: running instances, their state, and access to them.

None of these commands deploys, changes or ends anything.
"""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Final, Literal, TypeAlias

import attrs

import aiofluence

from ...inventory import make_inventory
from ...models.instances import Container, Instance, InstanceRef, Machine, Summary
from ...models.money import ZERO, total
from ...models.spending import estimate_spend
from ...models.ssh import is_user, ssh_access, why_no_access
from ...models.values import Kind, Status
from ..ages import ServiceTime
from ..arguments import Argument, Exit, Option, UsageError
from ..conditions import find_conditions
from ..console import Column, note, print_fields, print_json, print_table, say
from ..exit_codes import REACHED, USAGE, CommandError, explain
from ..json_output import Json, instance_shape, ref_shape, summary_shape
from ..lookup import SHOWN, choose_all, find_all, find_one, get_detail, list_all
from ..options import (
    IdentityOption,
    JsonOption,
    KindOption,
    NameArgument,
    NamesArgument,
    TimeoutOption,
    UntilOption,
    UserOption,
    WideOption,
    timeout_of,
)
from ..runner import execute, run_in_session, worst

_WATCH_INTERVAL: Final = 5.0

InventoryFormat: TypeAlias = Literal["ssh", "ansible", "dask", "ray", "skypilot", "json"]

PrefixOption: TypeAlias = Annotated[str | None, Option(metavar="TEXT", help="Only names with this prefix.")]


def ls(
    kind: KindOption = None,
    prefix: PrefixOption = None,
    everything: Annotated[bool, Option("--all", "-a", help="Also instances that have ended.")] = False,
    cost: Annotated[
        bool, Option("--cost", help="Show prices and spending: one request per instance.")
    ] = False,
    check: Annotated[
        bool, Option("--check", help="Show if containers run or crash: one request per container.")
    ] = False,
    watch: Annotated[
        bool, Option("--watch", help="Refresh every 5 seconds until Ctrl-C. In a pipe: print what changes.")
    ] = False,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """List the account's live instances, oldest first.

    SPENT includes the hours that begin before the service can end a machine: it refuses for 20 minutes.
    --wide shows whole ids.

    Examples:
        aiofluence ls --cost --prefix exp-
        aiofluence ls --watch
    """
    if watch and as_json:
        raise UsageError("--watch and --json exclude each other")
    time = ServiceTime()

    async def listed(fluence: aiofluence.Session) -> tuple[Sequence[Summary], dict[str, str]]:
        rows: Sequence[Summary] = await _listed(fluence, kind, prefix, everything)
        if not (cost or check):
            return rows, {}
        asked = [row.ref for row in rows if cost or _may_crash(row)]
        details = {one.id: one for one in await _details(fluence, asked)}
        words = await find_conditions(fluence, details.values())
        return [details.get(row.id, row) for row in rows], words

    def table(rows: Sequence[Summary], words: Mapping[str, str]) -> list[Sequence[str]]:
        return [
            *(_row(row, time, words, cost=cost, wide=wide) for row in rows),
            *([_total(rows, time)] if cost and rows else []),
        ]

    async def show_all(fluence: aiofluence.Session) -> None:
        rows, words = await listed(fluence)
        if as_json:
            print_json([_shape(row, words) for row in rows])
        elif rows:
            print_table(_columns(cost), table(rows, words), wide=wide)
        else:
            note("Nothing there." if everything else "Nothing is running.")

    async def show_changes(fluence: aiofluence.Session) -> None:
        seen: set[Sequence[str]] = set()
        while True:
            rows, words = await listed(fluence)
            if sys.stdout.isatty():
                print("\x1b[H\x1b[2J", end="")
                print_table(_columns(cost), table(rows, words), wide=wide)
            else:
                lines = [_row(row, time, words, cost=False, wide=True) for row in rows]
                lines = [(*line[:5], line[-1]) for line in lines]  # without the age, which always changes
                for line in lines:
                    if line not in seen:
                        say("  ".join(filter(None, line)))
                gone = {line[-1] for line in seen} - {line[-1] for line in lines}
                for line in [line for line in seen if line[-1] in gone]:
                    say("  ".join(filter(None, (*line[:2], "gone", *line[3:]))))
                seen = set(lines)
            await asyncio.sleep(_WATCH_INTERVAL)

    execute(show_changes if watch else show_all, on_reply=time.note)


def _columns(cost: bool) -> Sequence[Column]:
    return (
        Column("NAME"),
        Column("KIND", drop=2),
        Column("STATUS"),
        Column("GPU"),
        Column("WHERE", fold=True, drop=3),
        Column("AGE", right=True, drop=1),
        *((Column("USDC/H", right=True), Column("SPENT", right=True)) if cost else ()),
        Column("ID"),
    )


def _may_crash(row: Summary) -> bool:
    return row.kind is Kind.CONTAINER and row.status is Status.ACTIVE


def _shape(row: Summary, words: Mapping[str, str]) -> Json:
    if isinstance(row, Container | Machine):
        return {**instance_shape(row), "condition": words.get(row.id)}
    return summary_shape(row)


def _row(
    row: Summary, time: ServiceTime, words: Mapping[str, str], *, cost: bool, wide: bool
) -> tuple[str, ...]:
    gpu = f"{row.resources.supply.gpu_count}x {row.resources.gpu_model.model}"
    status = words.get(row.id, row.status)
    costs: tuple[str, ...] = ()
    if cost and isinstance(row, Container | Machine):
        costs = f"{row.billing.hourly_usage:f}", f"{_spent(row, time):f}"
    id = row.id if wide else row.id[:SHOWN]
    return row.name, row.kind, status, gpu, row.location or "", time.age(row.created_at), *costs, id


def _spent(row: Summary, time: ServiceTime) -> Decimal:
    return estimate_spend(row, time.now) or ZERO


def _total(rows: Sequence[Summary], time: ServiceTime) -> tuple[str, ...]:
    """Return the table row of totals: price per hour of live instances, and spending of all."""
    bills = [row.billing for row in rows if isinstance(row, Container | Machine) and not row.status.final]
    hourly = total(bill.hourly_usage for bill in bills)
    spent = total(_spent(row, time) for row in rows)
    return "total", "", "", "", "", "", f"{hourly:f}", f"{spent:f}", ""


async def _listed(
    fluence: aiofluence.Session, kind: Kind | None, prefix: str | None, everything: bool = False
) -> list[Summary]:
    rows = await list_all(fluence, tuple(Kind) if kind is None else (kind,))
    return [
        row
        for row in rows
        if (everything or not row.status.final) and (prefix is None or row.name.startswith(prefix))
    ]


async def _details(fluence: aiofluence.Session, refs: Sequence[InstanceRef]) -> list[Instance]:
    return list(await asyncio.gather(*(get_detail(fluence, ref) for ref in refs)))


def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show one instance: costs, access, configuration."""

    time = ServiceTime()

    async def show_one(fluence: aiofluence.Session) -> None:
        instance = await get_detail(fluence, await find_one(fluence, name))
        words = {} if as_json else await find_conditions(fluence, [instance])
        show_instance(instance, as_json, time, words.get(instance.id))

    execute(show_one, on_reply=time.note)


def show_instance(
    instance: Instance, as_json: bool, time: ServiceTime | None = None, condition: str | None = None
) -> None:
    """Print one instance, without the values of variables and keys."""
    if as_json:
        print_json(instance_shape(instance))
        return
    supply, gpu, bill = instance.resources.supply, instance.resources.gpu_model, instance.billing
    access = ssh_access(instance)
    age = time.age(instance.created_at) if time else ""
    print_fields(
        [
            ("name", instance.name),
            ("id", instance.id),
            ("kind", instance.kind),
            ("status", _status(instance) + (f", {condition}" if condition else "")),
            ("gpu", f"{supply.gpu_count}x {gpu.model}, {gpu.vram} each"),
            ("supply", f"{supply.vcpu} CPUs, {supply.memory} memory, {supply.storage} storage"),
            ("where", instance.location or ""),
            ("created", f"{instance.created_at:%Y-%m-%d %H:%M:%S} UTC" + (f", {age} ago" if age else "")),
            ("price", f"{bill.hourly_usage:f} USDC an hour"),
            ("spent", f"{bill.total_spendings:f} USDC, and {bill.reserved_amount:f} reserved"),
            ("ssh", shlex.join(access.command) if access else ""),
            *_configuration(instance),
        ]
    )


def _status(instance: Instance) -> str:
    status = getattr(instance, "container_status", None)
    return f"{instance.status}, {status}" if status else instance.status


def _configuration(instance: Instance) -> list[tuple[str, str]]:
    if not isinstance(instance, Container):
        return [("system", instance.os_image or "")]
    info, network = instance.container_info, instance.network
    ports = (
        [
            f"{p.port}/{p.protocol} at {network.domain or '?'}:{p.external_port}"
            for p in network.forwarded_ports
        ]
        if network
        else []
    )
    return [
        ("ports", "\n".join(ports) or " ".join(map(str, info.expose))),
        ("web", (network.uri if network else None) or ""),
        ("image", info.image),
        ("command", info.startup_command or ""),
        ("variables", " ".join(sorted(info.environment))),
    ]


def wait(
    names: NamesArgument,
    until: UntilOption = "active",
    timeout: TimeoutOption = 900.0,
    as_json: JsonOption = False,
) -> None:
    """Wait until instances reach the state of --until. Ends nothing, whatever happens."""

    async def wait_all(fluence: aiofluence.Session) -> int:
        refs = await find_all(fluence, names)
        awaited = aiofluence.Until(until), timeout_of(timeout)
        outcomes = await asyncio.gather(*(_wait(fluence, ref, *awaited) for ref in refs))
        shapes: list[Json] = []
        codes = []
        for ref, outcome in zip(refs, outcomes, strict=True):
            failed = isinstance(outcome, Exception)
            codes.append(explain(outcome) if isinstance(outcome, Exception) else REACHED)
            shapes.append(
                {
                    **ref_shape(ref),
                    "reached": not failed,
                    "error": type(outcome).__name__ if failed else None,
                    "instance": None if isinstance(outcome, Exception) else instance_shape(outcome),
                }
            )
            if not failed and not as_json:
                say(f"{ref.name} is {until}")
        if as_json:
            print_json(shapes)
        return worst(*codes)

    execute(wait_all)


async def _wait(
    fluence: aiofluence.Session, ref: InstanceRef, until: aiofluence.Until, timeout: float | None
) -> Instance | aiofluence.FluenceError:
    try:
        return await fluence.wait(ref, until=until, timeout=timeout)
    except aiofluence.FluenceError as error:
        return error


def ssh(
    name: NameArgument,
    command: Annotated[
        list[str] | None, Argument(metavar="COMMAND", help="Command to run there, or options for ssh.")
    ] = None,
    only_print: Annotated[bool, Option("--print", help="Only print the command.")] = False,
    user: UserOption = None,
    identity: IdentityOption = None,
    as_json: JsonOption = False,
) -> None:
    """Log in to an instance with ssh, and exit with its code. With --json, only print the command."""
    found: list[str] = []

    async def find(fluence: aiofluence.Session) -> None:
        instance = await get_detail(fluence, await find_one(fluence, name))
        if ssh_access(instance) is None and instance.status is Status.ACTIVE and not instance.network:
            note(f"Waiting until {instance.name} is ready.")
            instance = await fluence.wait(instance, until=aiofluence.Until.READY)
        access = ssh_access(instance)
        if access is None:
            raise CommandError(f"{instance.ref}: {why_no_access(instance)}")
        if user is not None:
            if not is_user(user):
                raise CommandError(f"{user!r} is not the name of a user", USAGE)
            access = attrs.evolve(access, user=user)
        program, *rest = access.command
        key = ["-i", identity] if identity is not None else []
        found.extend([program, *key, *rest, *(command or ())])

    code = run_in_session(find)
    if code == REACHED and as_json:
        print_json({"command": found})
    elif code == REACHED and only_print:
        print(shlex.join(found))
    elif code == REACHED:
        try:
            code = subprocess.run(found, check=False).returncode
        except FileNotFoundError:
            code = explain(CommandError("there is no ssh on this machine; --print shows the command"))
    raise Exit(code)


def inventory(
    names: Annotated[
        list[str] | None,
        Argument(metavar="NAME", help="Names or ids. Default: all live instances.", complete="instance"),
    ] = None,
    format: Annotated[InventoryFormat, Option("--format", help="Format of the output.")] = "ssh",
    kind: KindOption = None,
    prefix: PrefixOption = None,
    user: UserOption = None,
    identity: IdentityOption = None,
    as_json: Annotated[bool, Option("--json", help="Short for --format json.")] = False,
) -> None:
    """Export live instances for other tools.

    As SSH configuration, Ansible inventory, Dask hostfile, Ray cluster, SkyPilot pool or JSON. Instances that
    have no address yet, or do not fit the format, are named on stderr.
    """

    async def make(fluence: aiofluence.Session) -> None:
        rows = await _listed(fluence, kind, prefix, everything=bool(names))
        refs = choose_all(rows, names) if names else [row.ref for row in rows]
        details = await _details(fluence, refs)
        try:
            made = make_inventory(details, "json" if as_json else format, user=user, identity_file=identity)
        except ValueError as error:
            raise CommandError(str(error), USAGE) from None
        print(made.text, end="", flush=True)
        for line in made.notes:
            note(f"aiofluence: {line}")

    execute(make)
