"""A real redis-server (or valkey-server) of this machine, for one test: no network, no files that stay.

It listens on a Unix socket in a folder of its own; the system's own server and its data are left alone.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import attrs

_PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
PROGRAM: Final = shutil.which("redis-server", path=_PATH) or shutil.which("valkey-server", path=_PATH)
"""None: there is neither here."""
HERE: Final = PROGRAM is not None and find_spec("redis") is not None

_PATIENCE: Final = 15.0
"""Seconds in which it must start, and stop, on a busy machine."""


@attrs.define
class RedisServer:
    """An empty server; an async context manager. `kill` and `start` in the middle are for tests."""

    # A short path: the name of a Unix socket has 107 bytes at most, and pytest's folders are deep.
    folder: Path = attrs.field(factory=lambda: Path(tempfile.mkdtemp(prefix="aiofluence-")), init=False)
    _process: asyncio.subprocess.Process | None = attrs.field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/socket"

    async def __aenter__(self) -> RedisServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()
        shutil.rmtree(self.folder)

    async def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        assert PROGRAM is not None
        self._process = await asyncio.create_subprocess_exec(
            *(PROGRAM, "--port", "0", "--unixsocket", f"{self.folder}/socket", "--dir", f"{self.folder}"),
            *("--save", "", "--appendonly", "no"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(_PATIENCE):
            while not await self._accepts():
                assert self._process.returncode is None, "redis-server has ended"
                await asyncio.sleep(0.005)

    async def kill(self) -> None:
        """As if the power were gone: no good-bye, and nothing kept."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def ask(self, *command: Any) -> Any:
        """The answer to one command."""
        from redis.asyncio import Redis

        async with Redis.from_url(self.url, decode_responses=True) as client:
            return await client.execute_command(*command)  # type: ignore[no-untyped-call]

    async def _accepts(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(f"{self.folder}/socket")
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True
