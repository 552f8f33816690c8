"""A real nginx of this machine, as a rate-limiting TLS front of one upstream, for one test.

Everything it writes stays in one folder; the system's own nginx and its configuration are left alone.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
from pathlib import Path
from types import TracebackType
from typing import Final

import attrs
import trustme

PROGRAM: Final = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
"""Debian puts it into /usr/sbin, which is not on every user's PATH. None: there is no nginx here."""

_PATIENCE: Final = 15.0
"""Seconds in which it must start, and stop, on a busy machine."""

_CONFIG: Final = """\
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 512; }}
http {{
    log_format counted "$msec $status $upstream_status $request_method $uri";
    access_log {folder}/access.log counted;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    limit_req_zone $server_name zone=calls:1m rate={rate}r/s;
    upstream service {{ server 127.0.0.1:{upstream}; keepalive 16; }}
    server {{
        server_name service;
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/chain.pem;
        ssl_certificate_key {folder}/key.pem;
        location / {{
            limit_req zone=calls burst={burst} nodelay;
            {limit_req_status}
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


@attrs.frozen
class Line:
    """One request that nginx answered, or tried to.

    Attributes:
        at: nginx's time, in seconds, when the request was over.
        status: what nginx answered.
        upstream: the status that the service gave nginx; `-` when nginx did not ask it, or has no answer.
    """

    at: float
    status: int
    upstream: str
    method: str
    path: str

    @property
    def refused(self) -> bool:
        """`limit_req` said no: the service has not seen this request."""
        return self.upstream == "-" and self.status in (429, 503)


@attrs.define
class Nginx:
    """nginx before the plain HTTP server on port `upstream`; an async context manager.

    Attributes:
        rate: requests a second that `limit_req` lets pass.
        burst: requests that may be early.
        refusal: `limit_req_status`; None leaves nginx's own, which is 503.
    """

    folder: Path
    authority: trustme.CA = attrs.field(repr=False)
    upstream: int
    rate: int = 80
    burst: int = 10
    refusal: int | None = None
    port: int = attrs.field(factory=lambda: free_port(), init=False)
    _process: asyncio.subprocess.Process | None = attrs.field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Nginx:
        certificate = self.authority.issue_cert("127.0.0.1")
        certificate.private_key_pem.write_to_path(self.folder / "key.pem")
        for pem in certificate.cert_chain_pems:
            pem.write_to_path(self.folder / "chain.pem", append=True)
        config = _CONFIG.format(
            # Root's workers would become `nobody`, who may not write into a folder of pytest's.
            user="user root;" if os.geteuid() == 0 else "",
            folder=self.folder,
            rate=self.rate,
            burst=self.burst,
            port=self.port,
            upstream=self.upstream,
            limit_req_status="" if self.refusal is None else f"limit_req_status {self.refusal};",
        )
        (self.folder / "nginx.conf").write_text(config)
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start it and wait until it accepts connections."""
        assert PROGRAM is not None
        with (self.folder / "stderr.log").open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                PROGRAM,
                *("-p", str(self.folder), "-c", str(self.folder / "nginx.conf")),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=errors,
            )
        async with asyncio.timeout(_PATIENCE):
            while not await _accepts(self.port):
                if self._process.returncode is not None:
                    raise RuntimeError(f"nginx: {(self.folder / 'stderr.log').read_text()}")
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """End it at once: requests under way lose their connection."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(_PATIENCE):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise

    def log(self) -> list[Line]:
        """What it has answered, in order. Complete only once nginx has stopped: it logs after it answers."""
        lines = []
        for text in (self.folder / "access.log").read_text().splitlines():
            at, status, upstream, method, path = text.split(" ")
            lines.append(Line(float(at), int(status), upstream, method, path))
        return lines


def free_port() -> int:
    """A loopback port that can be listened on again after a restart.

    Not one that the system would choose: that might be given to an outgoing connection of ours meanwhile.
    """
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                taken.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free port between 20000 and 32000")


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
