"""Checks of the addresses of a Dask cluster, before anything is deployed. Pure.

Containers connect to the scheduler's contact address. The scheduler and the other workers connect to a
container's forwarded port. Only a connection shows if an address is reachable, and `cluster` tries that.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from ..config import is_loopback
from ..models.instances import Container
from ..models.values import PortProtocol

WORKER_PORT: Final = 9000
"""Port on which a worker listens in its container."""


def contact_problems(contact: str | None, protocol: str, origin: str) -> Iterator[str]:
    """Yield the reasons why containers of the service at `origin` cannot reach a scheduler at `contact`."""
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
    # A private address may be reachable through a VPN. These addresses never are.
    return not (address.is_unspecified or address.is_link_local or address.is_multicast)


def worker_contact(container: Container, protocol: str) -> str | None:
    """Return the address of the worker in a READY container for all others; None if no port is forwarded."""
    network = container.network
    if network is None:
        return None
    host = network.domain or urlsplit(network.uri or "").hostname
    ports = (p for p in network.forwarded_ports if p.port == WORKER_PORT and p.protocol is PortProtocol.TCP)
    port = next(ports, None)
    return f"{protocol}://{host}:{port.external_port}" if host and port else None
