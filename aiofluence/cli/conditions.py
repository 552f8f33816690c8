"""Conditions of containers that their status does not show: a program that does not run, or keeps crashing.

Details come from the caller. Only containers that do not run cost a request, for their events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

import aiofluence

from ..lifecycle.crash_loop import Cause, back_off
from ..models.instances import Container, Instance
from ..models.values import ContainerStatus, Status

_WORDS: Final[Mapping[Cause | None, str]] = {
    "exits": "crash loop",
    "no image": "no image",
    None: "not started",
}


async def find_conditions(fluence: aiofluence.Session, instances: Iterable[Instance]) -> dict[str, str]:
    """Return a word by id for each ACTIVE container that does not run. Makes one request for each."""
    down = [
        one
        for one in instances
        if isinstance(one, Container)
        and one.status is Status.ACTIVE
        and one.container_status is ContainerStatus.NOT_STARTED
    ]
    words = await asyncio.gather(*(_word(fluence, container) for container in down))
    return {container.id: word for container, word in zip(down, words, strict=True)}


async def _word(fluence: aiofluence.Session, container: Container) -> str:
    try:
        return _WORDS[back_off(await fluence.containers.events(container.id))]
    except aiofluence.FluenceError:  # show the rest of the table without this detail
        return _WORDS[None]
