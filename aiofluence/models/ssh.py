"""SSH access to an instance: user, host and port, read from its detail.

The service's text ends up in commands and files. The checks are therefore strict: an instance without a plain
name, host or port has no access. Nothing here connects. `inventory` writes the input of other programs.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from .instances import Container, Instance
from .values import PortProtocol

CONTAINER_USER: Final = "root"
"""User of a container. The service names no user, and its own images have only root."""

_SSH: Final = 22
# Neither may begin with a dash, which `ssh` would parse as an option. POSIX and DNS limit the lengths.
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,255}")
_HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9.:-]{0,254}")
_PORT = re.compile(r"\s-p\s{0,8}([0-9]{1,5})(?:\s|$)")
_LINE: Final = 1024
"""Maximum length of a readable `ssh_connection`."""


@attrs.frozen
class SshAccess:
    """Arguments of `ssh`: `ssh -p <port> <user>@<host>`."""

    user: str
    host: str
    port: int = _SSH

    @property
    def command(self) -> tuple[str, ...]:
        """The command as words for a shell or `subprocess`: `("ssh", "-p", "31022", "root@example.org")`."""
        port = () if self.port == _SSH else ("-p", str(self.port))
        return ("ssh", *port, f"{self.user}@{self.host}")


def is_user(text: str) -> bool:
    """Return True if `text` is a plain user name, which no program can mistake for an option."""
    return _USER.fullmatch(text) is not None


def ssh_access(instance: Instance) -> SshAccess | None:
    """Return the SSH access to `instance`; None while it has no address, or when it exposes no port 22."""
    if isinstance(instance, Container):
        return _of_container(instance)
    return _of_line(instance.ssh_connection or "")


def why_no_access(instance: Instance) -> str:
    """Explain in words that `ssh_access` returns None."""
    if isinstance(instance, Container) and instance.network is not None and instance.network.domain:
        return "it exposes no port 22"
    return f"it has no address {'any more' if instance.status.final else 'yet'} ({instance.status})"


def _of_container(container: Container) -> SshAccess | None:
    network = container.network
    if network is None or network.domain is None or not _HOST.fullmatch(network.domain):
        return None
    for port in network.forwarded_ports:
        if port.port == _SSH and port.protocol is not PortProtocol.UDP:
            return SshAccess(CONTAINER_USER, network.domain, port.external_port)
    return None


def _of_line(line: str) -> SshAccess | None:
    """Parse `ssh ubuntu@203.0.113.7` or `ssh -p 2222 ubuntu@host`."""
    if len(line) > _LINE:
        return None
    for word in line.split():
        user, at, host = word.partition("@")
        host = host.removeprefix("[").removesuffix("]")
        if at and is_user(user) and _HOST.fullmatch(host):
            port = _PORT.search(line)
            number = int(port[1]) if port else _SSH
            return SshAccess(user, host, number) if 0 < number < 65536 else None
    return None
