"""Who must reach whom in a Dask cluster on the fleet, judged before anything is deployed. Pure.

Containers connect to the scheduler's contact address; the scheduler and the other workers connect to a
container's forwarded port. Whether a packet gets through only a connection can tell, and `cluster` tries.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from ..models.instances import Container
from ..models.values import PortProtocol

WORKER_PORT: Final = 9000
"""Where a worker listens in its container."""


def is_loopback(host: str | None) -> bool:
    """Whether that address is this machine's own."""
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


def contact_problems(contact: str | None, protocol: str, origin: str) -> Iterator[str]:
    """Why containers of the service at `origin` could not reach a scheduler at `contact`."""
    nearby = is_loopback(urlsplit(origin).hostname)
    if contact is None:
        if not nearby:
            yield (
                "contact: required, since the containers must reach the scheduler on this machine: "
                f"'{protocol}://host:port' of this machine or of a tunnel to it"
            )
        return
    try:
        parts = urlsplit(contact)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme != protocol or not host or not port:
        yield f"contact: {contact!r} is not '{protocol}://host:port'"
    elif not nearby and not _may_be_reached(host):
        yield f"contact: containers at {origin} cannot reach {host}, which means this machine only here"


def _may_be_reached(host: str) -> bool:
    if is_loopback(host):
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return True
    # A private address may be reached through a VPN; these never.
    return not (address.is_unspecified or address.is_link_local or address.is_multicast)


def worker_contact(container: Container, protocol: str) -> str | None:
    """Where scheduler and workers reach the worker in a READY container; None when nothing leads to it."""
    network = container.network
    if network is None:
        return None
    host = network.domain or urlsplit(network.uri or "").hostname
    ports = (p for p in network.forwarded_ports if p.port == WORKER_PORT and p.protocol is PortProtocol.TCP)
    port = next(ports, None)
    return f"{protocol}://{host}:{port.external_port}" if host and port else None
