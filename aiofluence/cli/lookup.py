"""Lookup of instances by a name or an id that a person typed.

An id takes precedence over a name, a name over the beginning of an id, and a live instance over an ended one.
Ambiguous names are an error. A pattern such as `exp-*` names all live instances that fit it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import aiofluence

from ..models.values import Kind
from .exit_codes import USAGE, CommandError

if TYPE_CHECKING:  # imported on demand, since help and completion do not need them
    from ..models.instances import Instance, InstanceRef, Summary

SHORTEST: Final = 4
"""Number of characters from which on the beginning of an id is accepted in its place."""
SHOWN: Final = 8
"""Number of characters of an id in a table that is not wide."""


def resource_of(fluence: aiofluence.Session, kind: Kind) -> Any:
    """Return the endpoints of one kind."""
    return {Kind.CONTAINER: fluence.containers, Kind.VM: fluence.vms, Kind.BAREMETAL: fluence.baremetal}[kind]


async def list_all(fluence: aiofluence.Session, kinds: Iterable[Kind] = tuple(Kind)) -> list[Summary]:
    """Return all instances of these kinds that the account ever had, oldest first.

    Raises:
        FluenceError: a list could not be fetched.
    """
    lists: Sequence[Sequence[Summary]] = await asyncio.gather(
        *(resource_of(fluence, kind).list() for kind in kinds)
    )
    return sorted((row for rows in lists for row in rows), key=lambda row: (row.created_at, row.id))


async def get_detail(fluence: aiofluence.Session, ref: InstanceRef) -> Instance:
    """Return one instance in full.

    Raises:
        FluenceError: the detail could not be fetched.
    """
    instance: Instance = await resource_of(fluence, ref.kind).get(ref.id)
    return instance


async def find_all(fluence: aiofluence.Session, given: Sequence[str]) -> list[InstanceRef]:
    """Return the instances that `given` names, each once, in that order.

    Raises:
        CommandError: a name fits no instance, or more than one. The error lists all such names.
        FluenceError: a list could not be fetched.
    """
    return choose_all(await list_all(fluence), given)


async def find_one(fluence: aiofluence.Session, given: str) -> InstanceRef:
    """Return the instance that `given` names.

    Raises:
        CommandError: the name fits no instance, or more than one.
        FluenceError: a list could not be fetched.
    """
    return choose_one(await list_all(fluence), given)


def choose_one(rows: Sequence[Summary], given: str) -> InstanceRef:
    """Return the ref of that row which `given` names.

    Raises:
        CommandError: as `find_one`.
    """
    ref, *others = choose_all(rows, [given])
    if others:
        raise CommandError(f"{given} fits {1 + len(others)} instances, and this command takes one", USAGE)
    return ref


def choose_all(rows: Sequence[Summary], given: Sequence[str]) -> list[InstanceRef]:
    """Return the refs of those `rows` that `given` names.

    Raises:
        CommandError: as `find_all`.
    """
    found: list[InstanceRef] = []
    problems, ambiguous = [], False
    for text in given:
        fitting = _fitting(rows, text)
        if len(fitting) == 1 or (fitting and _is_pattern(text)):
            found += [row.ref for row in fitting]
        elif fitting:
            ambiguous = True
            problems.append(f"{text} may be any of {len(fitting)}; give the id of one:")
            problems += [
                f"{row.kind} {row.name} {row.id} {row.status}, created {row.created_at:%Y-%m-%d %H:%M:%S}"
                for row in fitting
            ]
        else:
            from difflib import get_close_matches

            near = get_close_matches(text, {row.name for row in rows if not row.status.final})
            meant = f"; do you mean {' or '.join(sorted(near))}?" if near else ""
            wanted = "live instance that fits" if _is_pattern(text) else "instance with the name or id"
            problems.append(f"there is no {wanted} {text}{meant}")
    if problems:
        raise CommandError("\n".join(problems), *([USAGE] if ambiguous else []))
    return list(dict.fromkeys(found))


def _is_pattern(text: str) -> bool:
    return "*" in text or "?" in text


def _fitting(rows: Sequence[Summary], text: str) -> list[Summary]:
    if _is_pattern(text):
        from fnmatch import fnmatchcase

        return [row for row in rows if not row.status.final and fnmatchcase(row.name, text)]
    by_id = [row for row in rows if row.id == text]
    by_name = [row for row in rows if row.name == text]
    if by_id or by_name:
        return by_id or _live_first(by_name)
    return _live_first([row for row in rows if len(text) >= SHORTEST and row.id.startswith(text.lower())])


def _live_first(rows: list[Summary]) -> list[Summary]:
    return [row for row in rows if not row.status.final] or rows
