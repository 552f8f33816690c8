"""A fleet's logs in one file: each line with its container's name, and a mark where lines may be missing.

One iterator follows all running containers within the session's rate. It ends when all of them have ended.
"""

import asyncio
from pathlib import Path
from typing import TextIO

from aiofluence import Session, Status

MINUTES = 10


async def main(file: TextIO) -> None:
    async with Session() as fluence:
        fleet = [one for one in await fluence.containers.list() if one.status is Status.ACTIVE]
        written = 0
        try:
            async with asyncio.timeout(MINUTES * 60):
                async for tagged in fluence.tail_all(fleet):
                    file.write(f"{tagged.ref.name} {tagged.line}\n")
                    written += 1
        except TimeoutError:
            pass
        print(len(fleet), "containers,", written, "lines")


with Path("fleet.log").open("a", encoding="utf-8") as log:
    asyncio.run(main(log))
