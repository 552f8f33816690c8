"""Start-up times: the library and its command line against `import aiohttp`, in one run.

    python benchmarks/startup.py --rounds 20

Each case is a new interpreter. The cases take turns, and the best time of each counts, so that a busy machine
disturbs all of them alike. The other packages are what a user would import instead; those that are not
installed are left out.

A verb (`ls`) has two rows. `starts` is the time until its first request reaches the local server, with the
CPU time that the kernel has counted by then (Linux only). The whole verb has three replies with empty lists.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import attrs

CLI = "import sys; from aiofluence.cli import main; sys.exit(main())"  # as the script `aiofluence` does
CASES = {
    "python": ("pass",),
    "import aiohttp": ("import aiohttp",),
    "from aiofluence import Session": ("from aiofluence import Session",),
    "aiofluence --help": (CLI, "--help"),
    "aiofluence deploy --help": (CLI, "deploy", "--help"),
    "completion of an option": (CLI, "--complete", "deploy", "x", "--dr"),
    "aiofluence ls": (CLI, "ls"),
}
OTHERS = ("httpx", "requests", "typer", "hcloud", "openai", "boto3", "kubernetes")
BOUNDS = {
    "from aiofluence import Session": 1.2,
    "aiofluence --help": 0.5,
    "aiofluence deploy --help": 0.5,
    "completion of an option": 0.5,
    "aiofluence ls, starts": 1.15,
    "aiofluence ls": 1.15,
}
"""Aims, as multiples of `import aiohttp`."""


@attrs.define
class Times:
    """Times of a case, in seconds."""

    wall: float = math.inf
    cpu: float = math.inf

    def best(self, other: Times) -> Times:
        """Return the smaller of both, each by itself."""
        return Times(min(self.wall, other.wall), min(self.cpu, other.cpu))


class Client:
    """A new interpreter."""

    def __init__(self, arguments: tuple[str, ...], env: dict[str, str]) -> None:
        self.first_request: Times | None = None
        self._before, self._began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-c", *arguments], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def note_request(self) -> None:
        """Note the times of the first request."""
        if self.first_request is None:
            threads = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
            ran = [int(thread.read_text().split()[0]) for thread in threads]
            cpu = sum(ran) / 1e9 if ran else math.inf
            self.first_request = Times(time.perf_counter() - self._began, cpu)

    def whole(self) -> Times:
        """Wait for the end, and return the times of the whole run."""
        if self._process.wait() != 0:
            raise SystemExit("a case failed")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - self._before.ru_utime - self._before.ru_stime
        return Times(time.perf_counter() - self._began, cpu)


class Server(ThreadingHTTPServer):
    """A service without instances, and the client that uses it now."""

    client: Client | None = None


class Empty(BaseHTTPRequestHandler):
    """A handler that answers with an empty list."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        if self.server.client is not None:
            self.server.client.note_request()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *_: object) -> None: ...


def main() -> int:
    """Print a table of times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--check", action="store_true", help="exit with 1 if an aim is missed (by CPU time)")
    given = parser.parse_args()
    server = Server(("127.0.0.1", 0), Empty)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env = {
        **os.environ,
        "FLUENCE_API_KEY": "key",
        "FLUENCE_BASE_URL": f"http://127.0.0.1:{server.server_address[1]}",
        "FLUENCE_CONFIG": str(Path(__file__).with_name("absent.toml")),
    }
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    cases = CASES | {f"import {name}": (f"import {name}",) for name in OTHERS if find_spec(name) is not None}
    best: dict[str, Times] = {}
    for _ in range(given.rounds):
        for name, arguments in cases.items():
            client = server.client = Client(arguments, env)
            whole = client.whole()
            if (first := client.first_request) is not None:
                best[f"{name}, starts"] = first.best(best.get(f"{name}, starts", first))
            best[name] = whole.best(best.get(name, whole))
    base, missed = best["import aiohttp"], 0
    print(f"{'':34}{'wall ms':>9}{'ratio':>7}{'CPU ms':>9}{'ratio':>7}{'aim':>7}")
    for name, one in best.items():
        aim = BOUNDS.get(name)
        missed += aim is not None and one.cpu / base.cpu > aim
        wall, cpu = f"{one.wall * 1000:9.0f}{one.wall / base.wall:7.2f}", f"{one.cpu * 1000:9.0f}"
        print(f"{name:34}{wall}{cpu}{one.cpu / base.cpu:7.2f}{aim or '':>7}")
    return 1 if missed and given.check else 0


if __name__ == "__main__":
    sys.exit(main())
