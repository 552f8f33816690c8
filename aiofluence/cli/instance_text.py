"""Instances as text and JSON: the rows of `ls`, and the fields of `show`.

Pure: no requests. `json_output` has the shapes.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from decimal import Decimal

from ..models.instances import Container, Instance, Machine, Summary
from ..models.money import ZERO, total
from ..models.spending import estimate_spend
from ..models.ssh import ssh_access
from .ages import ServiceTime
from .console import Column, print_fields, print_json
from .json_output import Json, instance_shape, summary_shape
from .lookup import SHOWN


def list_columns(cost: bool) -> Sequence[Column]:
    """Return the columns of `ls`."""
    return (
        Column("NAME"),
        Column("KIND", drop=3),
        Column("STATUS"),
        Column("GPU", drop=1),
        Column("WHERE", fold=True, drop=4),
        Column("AGE", right=True, drop=2),
        *((Column("USDC/H", right=True), Column("SPENT", right=True)) if cost else ()),
        Column("ID"),
    )


def list_shape(row: Summary, words: Mapping[str, str]) -> Json:
    """Return the JSON of an instance in a list; with its condition if its detail is known."""
    if isinstance(row, Container | Machine):
        return {**instance_shape(row), "condition": words.get(row.id)}
    return summary_shape(row)


def list_row(
    row: Summary, time: ServiceTime, words: Mapping[str, str], *, cost: bool, wide: bool
) -> tuple[str, ...]:
    """Return the row of an instance in `ls`."""
    gpu = f"{row.resources.supply.gpu_count}x {row.resources.gpu_model.model}"
    status = words.get(row.id, row.status)
    costs: tuple[str, ...] = ()
    if cost and isinstance(row, Container | Machine):
        costs = f"{row.billing.hourly_usage:f}", f"{_spent(row, time):f}"
    id = row.id if wide else row.id[:SHOWN]
    return row.name, row.kind, status, gpu, row.location or "", time.age(row.created_at), *costs, id


def _spent(row: Summary, time: ServiceTime) -> Decimal:
    return estimate_spend(row, time.now) or ZERO


def total_row(rows: Sequence[Summary], time: ServiceTime) -> tuple[str, ...]:
    """Return the table row of totals: price per hour of live instances, and spending of all."""
    bills = [row.billing for row in rows if isinstance(row, Container | Machine) and not row.status.final]
    hourly = total(bill.hourly_usage for bill in bills)
    spent = total(_spent(row, time) for row in rows)
    return "total", "", "", "", "", "", f"{hourly:f}", f"{spent:f}", ""


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
