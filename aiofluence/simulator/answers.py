"""The JSON of instances in answers: rows of lists, and details.

This module reads the simulator's records. It changes only the rows cached in them.
"""

from __future__ import annotations

import json
from decimal import ROUND_HALF_UP, Decimal

from .billing import exact
from .instances import Calendar, ContainerInstance, Instance, MachineInstance, State
from .plans import Json
from .profile import Profile

_CENT = Decimal("0.01")


def summary_bytes(instance: Instance, calendar: Calendar) -> bytes:
    """Return one row of a list as JSON text, from a cache: long lists are polled often and change little."""
    if instance.summary is None:
        instance.summary = json.dumps(_summary_json(instance, calendar)).encode()
    return instance.summary


def _summary_json(instance: Instance, calendar: Calendar) -> Json:
    status = "instance_status" if isinstance(instance, ContainerInstance) else "status"
    return {
        "id": instance.id,
        "name": instance.name,
        status: instance.state.value,
        "resources": {"supply": instance.offer.supply_json(), "gpu_model": instance.offer.gpu_json()},
        "domain": _domain(instance),
        "location": instance.location,
        "created_at": calendar.iso(instance.created_at),
        "updated_at": calendar.iso(instance.updated_at),
    }


_ORDER = (
    *("id", "name", "instance_status", "status", "container_status", "availability", "resources", "domain"),
    *("location", "container_info", "os_image", "ssh_connection", "billing", "network", "ssh_key"),
    *("created_at", "updated_at"),
)
"""Order of the fields in the published details."""


def detail_json(instance: Instance, calendar: Calendar, now: float, profile: Profile) -> Json:
    """Return the detail of one instance."""
    detail = _summary_json(instance, calendar) | {"billing": _billing_json(instance, calendar, now, profile)}
    if not profile.detail_domain:
        del detail["domain"]
    if isinstance(instance, ContainerInstance):
        detail |= _container_json(instance)
    elif isinstance(instance, MachineInstance):
        detail |= _machine_json(instance, profile)
        if instance.state is State.FAILED:
            detail["status"] = profile.failed_machine_detail
    return {name: detail[name] for name in _ORDER if name in detail}


def _billing_json(instance: Instance, calendar: Calendar, now: float, profile: Profile) -> Json:
    bill = instance.bill
    over = not instance.live and profile.hourly_usage_after_end == "zero"
    next_period: str | None = None
    if profile.billing_period == "live" and instance.live:
        next_period = calendar.iso(calendar.next_hour(now))
    elif profile.billing_period == "active" and instance.state is State.ACTIVE:
        next_period = calendar.at(calendar.next_hour(now)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def shown(amount: Decimal) -> float:
        return cents(amount) if profile.rounded_amounts else float(amount)

    return {
        "hourly_usage": 0 if over else shown(bill.hourly),
        "total_spendings": shown(bill.spent),
        "reserved_amount": shown(bill.reserved),
        "next_billing_period": next_period,
    }


@exact()
def cents(amount: Decimal) -> float:
    """Round an amount to cents, half a cent upwards. Return an int for a whole number of USDC."""
    rounded = float(amount.quantize(_CENT, ROUND_HALF_UP))
    return int(rounded) if rounded.is_integer() else rounded


def _container_json(instance: ContainerInstance) -> Json:
    network: Json | None = None
    if instance.state is State.ACTIVE and instance.forwarded_ports is not None:
        web = any(port.protocol == "http" for port in instance.expose)
        domain = instance.domain
        network = {
            "domain": domain,
            "forwarded_ports": instance.forwarded_ports,
            "uri": _uri(instance) if web and domain else None,
        }
    settings = instance.settings
    return {
        "container_status": "STARTED" if instance.started else "NOT_STARTED",
        "container_info": {
            "image": settings.image,
            "expose": [port.to_json() for port in instance.expose],
            "environment": settings.environment_json(),
            "startup_command": settings.startup_command,
        },
        "network": network,
    }


def _machine_json(instance: MachineInstance, profile: Profile) -> Json:
    active = instance.state is State.ACTIVE
    login = _LOGINS.get(instance.offer.provider) if profile.login_by == "provider" else None
    user = login or _login(instance.os_image)
    return {
        "availability": instance.kind,
        "os_image": instance.os_image,
        "ssh_connection": f"ssh {user}@{instance.address}" if active else None,
        "ssh_key": instance.ssh_key,
        "network": {"domain": _domain(instance), "forwarded_ports": [], "uri": None} if active else None,
    }


_LOGINS = {"massed-compute": "ubuntu", "sesterce": "user"}
"""Login users by provider. Only Massed Compute's is published."""


def _domain(instance: Instance) -> str | None:
    if isinstance(instance, MachineInstance) and instance.live and instance.has_address:
        return instance.address
    if isinstance(instance, ContainerInstance) and instance.state is State.ACTIVE:
        return instance.domain
    return None


def _uri(instance: ContainerInstance) -> str:
    if instance.placement is None:
        return f"http://{instance.id[:8]}.{instance.domain}"
    web = next(index for index, port in enumerate(instance.expose) if port.protocol == "http")
    return f"http://{instance.domain}:{instance.placement.ports[web]}"


def _login(os_image: str) -> str:
    system = os_image.lower()
    return next((name for name in ("ubuntu", "debian", "rocky") if name in system), "root")
