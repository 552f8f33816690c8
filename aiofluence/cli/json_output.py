"""The JSON shapes of the command line, as documented in docs/cli.md: dicts made from models.

Money is text, times are ISO 8601 in UTC, sizes are GiB. No shape contains values of variables, keys or
log-ins.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import aiofluence

from ..models.money import exact

if TYPE_CHECKING:  # help and completion do not need the models
    from ..models.account import Balance
    from ..models.instances import Instance, InstanceRef, Network, Summary
    from ..models.logs import Event, LogGap, LogLine
    from ..models.plans import DefaultImage, Offer
    from ..models.specs import Spec
    from ..models.values import GpuModel, Supply

Json: TypeAlias = dict[str, Any]

_MILLI: Final = Decimal("0.001")


def ref_shape(ref: InstanceRef) -> Json:
    """Return the kind, id and name of an instance."""
    return {"kind": ref.kind, "id": ref.id, "name": ref.name}


def offer_shape(offer: Offer) -> Json:
    """Return one offer."""
    return {
        "kind": offer.kind,
        "plan_id": offer.plan_id,
        "name": offer.name,
        "gpu": _gpu(offer.gpu_model, offer.gpu_count),
        "vcpu": offer.vcpu,
        "memory_gib": offer.memory.gib,
        "storage_gib": offer.storage.gib,
        "hourly": str(offer.hourly),
        "upfront": str(offer.upfront),
        "currency": offer.currency,
        "locations": list(offer.locations),
        "provider": offer.provider,
        "nvlink": offer.nvlink,
        "os_images": list(offer.os_options),
    }


def gpu_shape(offers: Sequence[Offer]) -> Json:
    """Return the overview of one GPU type, from all its offers."""
    gpu = offers[0].gpu_model
    with exact():
        lowest = min(offer.hourly / offer.gpu_count for offer in offers).quantize(_MILLI).normalize()
    return {
        "model": gpu.model,
        "vram_gib": gpu.vram.gib,
        "from": f"{lowest:f}",
        "offers": len(offers),
        "counts": sorted({offer.gpu_count for offer in offers}),
        "kinds": sorted({offer.kind for offer in offers}),
        "locations": sorted({place for offer in offers for place in offer.locations}),
    }


def balance_shape(balance: Balance) -> Json:
    """Return the amounts of the account."""
    return {
        "balance": str(balance.balance),
        "usage": _text(balance.usage),
        "estimated_usage": _text(balance.estimated_usage),
        "overage": _text(balance.overage),
        "total_deposited": _text(balance.total_deposited),
        "usage_days_left": _text(balance.usage_days_left),
        "feature": balance.feature_key,
    }


def image_shape(image: DefaultImage) -> Json:
    """Return one of the service's own images."""
    return {
        "slug": image.slug,
        "name": image.name,
        "image": image.image,
        "description": image.description,
        "expose": [str(port) for port in image.expose],
        "environment": sorted(image.environment),
        "startup_command": image.startup_command,
        "requires_ssh": image.requires_ssh,
    }


def summary_shape(row: Summary) -> Json:
    """Return an instance as a list shows it."""
    return {
        **ref_shape(row.ref),
        "status": row.status,
        "gpu": _gpu(row.resources.gpu_model, row.resources.supply.gpu_count),
        **_supply(row.resources.supply),
        "location": row.location,
        "domain": row.domain,
        "created_at": time_shape(row.created_at),
        "updated_at": time_shape(row.updated_at),
    }


def instance_shape(instance: Instance) -> Json:
    """Return an instance in full: its list row, costs, access and configuration."""
    from ..models.ssh import ssh_access

    bill = instance.billing
    access = ssh_access(instance)
    ssh = None if access is None else {"user": access.user, "host": access.host, "port": access.port}
    return {
        **summary_shape(instance),
        "hourly": str(bill.hourly_usage),
        "spent": str(bill.total_spendings),
        "reserved": str(bill.reserved_amount),
        "next_billing": time_shape(bill.next_billing_period),
        "ssh": ssh,
        **_network(instance.network),
        **_configuration(instance),
    }


def order_shape(spec: Spec, offer: Offer) -> Json:
    """Return an instance that would be deployed, and its price."""
    return {
        "kind": spec.kind,
        "name": spec.name,
        "plan_id": spec.plan_id,
        "plan": offer.name,
        "hourly": str(offer.hourly),
        "upfront": str(offer.upfront),
    }


def report_shape(report: aiofluence.Report) -> Json:
    """Return the result of a launch."""
    return {
        "ready": len(report.ready),
        "failed": len(report.failed),
        "terminated": len(report.terminated),
        "unknown": len(report.unknown),
        "hourly": str(report.hourly_cost),
        "least": str(report.least_cost),
        "outcomes": [
            {
                "index": outcome.index,
                "kind": outcome.spec.kind,
                "name": outcome.spec.name,
                "plan_id": outcome.spec.plan_id,
                "state": outcome.status,
                "id": outcome.ref.id if outcome.ref is not None else None,
                "error": type(outcome.error).__name__ if outcome.error is not None else None,
                "message": str(outcome.error) if outcome.error is not None else None,
                "instance": instance_shape(outcome.instance) if outcome.instance is not None else None,
            }
            for outcome in report.outcomes
        ],
    }


def line_shape(ref: InstanceRef, line: LogLine | LogGap) -> Json:
    """Return one line of a log, or a gap where lines may be missing."""
    shape = {"id": ref.id, "name": ref.name, "pod": line.pod}
    if isinstance(line, aiofluence.LogGap):
        lost = {"gap": line.reason, "at_least": line.at_least}
        return {**shape, "text": None, "raw": None, "grown": False, **lost}
    said = {"text": line.text, "raw": line.raw, "grown": line.grown}
    return {**shape, **said, "gap": None, "at_least": None}


def event_shape(event: Event) -> Json:
    """Return one event of the cluster."""
    return {
        "object": event.object,
        "type": event.type,
        "reason": event.reason,
        "kind": event.kind,
        "message": event.message,
        "raw": event.raw,
    }


def time_shape(moment: datetime | None) -> str | None:
    """Format a time as `2026-01-01T09:30:00+00:00`; None stays None."""
    return None if moment is None else moment.isoformat()


def refs_shape(refs: Sequence[InstanceRef]) -> list[Json]:
    """Return several refs."""
    return [ref_shape(ref) for ref in refs]


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)


def _gpu(gpu: GpuModel, count: int) -> Json:
    return {
        "vendor": gpu.vendor,
        "model": gpu.model,
        "vram_gib": gpu.vram.gib,
        "interface": gpu.interface,
        "count": count,
    }


def _supply(supply: Supply) -> Json:
    return {"vcpu": supply.vcpu, "memory_gib": supply.memory.gib, "storage_gib": supply.storage.gib}


def _network(network: Network | None) -> Json:
    ports = network.forwarded_ports if network is not None else ()
    return {
        "uri": network.uri if network is not None else None,
        "ports": [
            {"port": port.port, "external_port": port.external_port, "protocol": port.protocol}
            for port in ports
        ],
    }


def _configuration(instance: Instance) -> Json:
    if isinstance(instance, aiofluence.Machine):
        return {"os_image": instance.os_image}
    assert isinstance(instance, aiofluence.Container)
    info = instance.container_info
    return {
        "container_status": instance.container_status,
        "image": info.image,
        "expose": [str(port) for port in info.expose],
        "environment": sorted(info.environment),
        "startup_command": info.startup_command,
    }
