"""Live instances as input for other tools: SSH, Ansible, Dask, Ray, SkyPilot, JSON.

Pure functions from details to text. They send no request and write no file. The notes name every instance
that a format cannot represent.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import attrs

from .display.table import short
from .models.instances import Instance
from .models.ssh import is_user, ssh_access, why_no_access
from .models.values import Kind

__all__ = ["FORMATS", "Host", "Inventory", "make_inventory", "read_hosts"]

_CLUSTER: Final = "fluence"
"""Name of the group, the cluster and the pool."""


@attrs.frozen
class Host:
    """An instance that SSH can reach.

    Attributes:
        alias: short name, unique in the inventory.
        hourly: price per hour in USDC, as text.
    """

    alias: str
    kind: Kind
    id: str
    name: str
    user: str
    host: str
    port: int
    gpu: str
    gpu_count: int
    hourly: str


@attrs.frozen
class Inventory:
    """A generated file, and notes for the user.

    Attributes:
        text: content of the file, with a line end behind its last line.
        notes: missing instances with the reason, and assumptions of the text.
    """

    text: str
    notes: tuple[str, ...] = ()


def make_inventory(
    instances: Iterable[Instance], format: str, *, user: str | None = None, identity_file: str | None = None
) -> Inventory:
    """Generate an inventory of `instances` in one of `FORMATS`.

    Args:
        instances: details, as returned by `get` or a wait.
        format: a key of `FORMATS`.
        user: login name; None for the name in each detail, and for root in containers.
        identity_file: path of the private key; None leaves the choice to `ssh`.

    Raises:
        ValueError: the format is unknown, or the user or the path cannot be written into a file.
    """
    if format not in FORMATS:
        raise ValueError(f"format is {', '.join(FORMATS)}, not {format!r}")
    if user is not None and not is_user(user):
        raise ValueError(f"{user!r} is not the name of a user")
    if identity_file is not None and (not identity_file.isprintable() or '"' in identity_file):
        raise ValueError(f"{identity_file!r} is not a path that every format can hold")
    hosts, missing = read_hosts(instances, user=user)
    made = FORMATS[format](hosts, identity_file)
    return attrs.evolve(made, notes=(*missing, *made.notes))


def read_hosts(
    instances: Iterable[Instance], *, user: str | None = None
) -> tuple[tuple[Host, ...], tuple[str, ...]]:
    """Return the `instances` that SSH can reach, and a sentence for each of the others."""
    given = tuple({(instance.kind, instance.id): instance for instance in instances}.values())
    hosts, missing = [], []
    for instance, alias in zip(given, _aliases(given), strict=True):
        access = ssh_access(instance)
        if access is None:
            missing.append(f"{instance.ref} is left out: {why_no_access(instance)}")
            continue
        hosts.append(
            Host(
                alias=alias,
                kind=instance.kind,
                id=instance.id,
                name=instance.name,
                user=user or access.user,
                host=access.host,
                port=access.port,
                gpu=instance.resources.gpu_model.model,
                gpu_count=instance.resources.supply.gpu_count,
                hourly=f"{instance.billing.hourly_usage:f}",
            )
        )
    return tuple(hosts), tuple(missing)


_LONGEST_ALIAS: Final = 64
_NOT_IN_ALIASES: Final = re.compile(r"[^A-Za-z0-9_.-]")
_TAKEN: Final = frozenset(
    {"all", "ungrouped", "localhost", _CLUSTER, *(f"{_CLUSTER}_{kind}" for kind in Kind)}
)
"""Names with another meaning in Ansible, or as groups of the inventory."""


def _aliases(instances: Sequence[Instance]) -> list[str]:
    """Return a short alias for each instance, unique even without case: `ssh` and some file systems fold it.

    An alias is the instance's name if that is unique, else the name and as much of the id as necessary.
    """
    named = [_plain(instance.name) or "host" for instance in instances]
    short = [f"{name}-{_plain(instance.id)[:8]}" for name, instance in zip(named, instances, strict=True)]
    whole = [f"{name}-{_plain(instance.id)}" for name, instance in zip(named, instances, strict=True)]
    aliases: list[str] = [""] * len(instances)
    taken = set(_TAKEN)
    for form in (named, short, whole):
        count = Counter(alias.lower() for alias, done in zip(form, aliases, strict=True) if not done)
        free = taken.copy()
        for place, alias in enumerate(form):
            if not aliases[place] and count[alias.lower()] == 1 and alias.lower() not in free:
                aliases[place] = alias
                taken.add(alias.lower())
    for place, alias in enumerate(whole):  # equal ids, which one service should never create
        if not aliases[place]:
            numbered = (f"{alias}-{number}" for number in itertools.count(2))
            aliases[place] = next(other for other in numbered if other.lower() not in taken)
            taken.add(aliases[place].lower())
    return aliases


def _plain(text: str) -> str:
    return _NOT_IN_ALIASES.sub("-", text[:_LONGEST_ALIAS]).lstrip("-.")


# --- formats: functions from hosts and the path of a key ---------------------------------------------------


def _ssh(hosts: Sequence[Host], key: str | None) -> Inventory:
    """Write entries for ~/.ssh/config, or for a file that it includes."""
    entries = []
    for host in hosts:
        lines = [f"Host {host.alias}", f"    HostName {host.host}", f"    Port {host.port}"]
        lines.append(f"    User {host.user}")
        if key is not None:
            lines += [f'    IdentityFile "{key}"', "    IdentitiesOnly yes"]
        entries.append("".join(f"{line}\n" for line in lines))
    return Inventory("\n".join(entries))


def _ansible(hosts: Sequence[Host], key: str | None) -> Inventory:
    """Write an inventory in JSON, which is YAML: a group for each kind, below one group with all hosts."""
    groups: dict[str, Any] = {}
    for host in hosts:
        facts: dict[str, Any] = {
            "ansible_host": host.host,
            "ansible_port": host.port,
            "ansible_user": host.user,
            "fluence_id": host.id,
            "fluence_gpu": host.gpu,
            "fluence_gpu_count": host.gpu_count,
        }
        if key is not None:
            facts["ansible_ssh_private_key_file"] = key
        group = groups.setdefault(f"{_CLUSTER}_{host.kind}", {"hosts": {}})
        group["hosts"][host.alias] = facts
    return Inventory(_as_yaml({_CLUSTER: {"children": groups}}))


def _dask(hosts: Sequence[Host], key: str | None) -> Inventory:
    """Write a hostfile for `dask-ssh`, one host per line. The first runs the scheduler, all run workers."""
    chosen, notes = _most_alike(hosts, lambda host: (host.user, host.port), "dask-ssh logs in to all hosts")
    if chosen:
        options = f"--ssh-username {chosen[0].user} --ssh-port {chosen[0].port}"
        options += f" --ssh-private-key {shlex.quote(key)}" if key is not None else ""
        notes = (*notes, f"start it with: dask-ssh --hostfile FILE {options}")
    return Inventory("".join(f"{host.host}\n" for host in chosen), notes)


def _ray(hosts: Sequence[Host], key: str | None) -> Inventory:
    """Write a cluster for `ray up`. The first host is its head."""
    usable = [host for host in hosts if host.port == 22]
    notes = tuple(
        f"{_who(host)} is left out: Ray knows no port but 22, and this is {host.port}"
        for host in hosts
        if host.port != 22
    )
    chosen, others = _most_alike(usable, lambda host: (host.user, 22), "Ray logs in to all hosts")
    notes += others
    if not chosen:
        return Inventory("", (*notes, "there is no host left for a Ray cluster"))
    auth = {"ssh_user": chosen[0].user} | ({"ssh_private_key": key} if key is not None else {})
    workers = [host.host for host in chosen[1:]]
    cluster = {
        "cluster_name": _CLUSTER,
        "provider": {"type": "local", "head_ip": chosen[0].host, "worker_ips": workers},
        "auth": auth,
        "min_workers": len(workers),
        "max_workers": len(workers),
    }
    return Inventory(_as_yaml(cluster), notes)


def _skypilot(hosts: Sequence[Host], key: str | None) -> Inventory:
    """Write a pool for ~/.sky/ssh_node_pools.yaml. A port other than 22 needs an entry in ssh's own file."""
    pool: list[Any] = []
    named = []
    for host in hosts:
        if host.port == 22:
            of_key = {"identity_file": key} if key is not None else {}
            pool.append({"ip": host.host, "user": host.user} | of_key)
        else:
            pool.append(host.alias)
            named.append(host.alias)
    notes = (f"~/.ssh/config must know {', '.join(named)}: see --format ssh",) if named else ()
    return Inventory(_as_yaml({_CLUSTER: {"hosts": pool}}), notes)


def _json(hosts: Sequence[Host], key: str | None) -> Inventory:
    """Write an array with an object for each host."""
    of_key = {"identity_file": key} if key is not None else {}
    return Inventory(json.dumps([attrs.asdict(host) | of_key for host in hosts], indent=2) + "\n")


Format: TypeAlias = Callable[[Sequence[Host], str | None], Inventory]

FORMATS: Final[Mapping[str, Format]] = {
    "ssh": _ssh,
    "ansible": _ansible,
    "dask": _dask,
    "ray": _ray,
    "skypilot": _skypilot,
    "json": _json,
}
"""The function that writes each format, by its name."""


def _most_alike(
    hosts: Sequence[Host], login: Callable[[Host], tuple[str, int]], why: str
) -> tuple[list[Host], tuple[str, ...]]:
    """Return the largest group of hosts with the same login, and a sentence for each other host."""
    if not hosts:
        return [], ()
    (user, port), _ = Counter(map(login, hosts)).most_common(1)[0]
    return [host for host in hosts if login(host) == (user, port)], tuple(
        f"{_who(host)} is left out: {why} as {user} at port {port}, and this is {host.user} at {host.port}"
        for host in hosts
        if login(host) != (user, port)
    )


def _who(host: Host) -> str:
    return f"{host.kind} {short(host.name)} ({short(host.id)})"


def _as_yaml(value: Mapping[str, Any]) -> str:
    """Write JSON, which every YAML 1.2 parser reads. For these values, YAML 1.1 parsers read it too."""
    return json.dumps(value, indent=2) + "\n"
