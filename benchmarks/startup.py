"""Start-up times: the library and its command line against `import aiohttp`, in one run.

    python benchmarks/startup.py --rounds 20

Each case is a new interpreter. The cases take turns, and the best time of each counts, so that a busy machine
disturbs all of them alike. A verb (`ls`) runs to its end: two local replies, empty lists. The other packages
are what a user would import instead; those that are not installed are left out.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec

import attrs

CLI = "import sys; from aiofluence.cli import main; sys.exit(main({!r}.split()))"
CASES = {
    "python": "pass",
    "import aiohttp": "import aiohttp",
    "from aiofluence import Session": "from aiofluence import Session",
    "aiofluence --help": CLI.format("--help"),
    "aiofluence deploy --help": CLI.format("deploy --help"),
    "completion of an option": CLI.format("--complete deploy x --dr"),
    "aiofluence ls": CLI.format("ls"),
}
OTHERS = ("httpx", "requests", "typer", "hcloud", "openai", "boto3", "kubernetes")
BOUNDS = {
    "from aiofluence import Session": 1.2,
    "aiofluence --help": 0.5,
    "aiofluence deploy --help": 0.5,
    "completion of an option": 0.5,
    "aiofluence ls": 1.15,
}
"""Aims, as multiples of `import aiohttp`."""


class Empty(BaseHTTPRequestHandler):
    """A service without instances."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *_: object) -> None: ...


@attrs.define
class Best:
    """Best times of a case, in seconds."""

    wall: float = float("inf")
    cpu: float = float("inf")

    def run(self, code: str, env: dict[str, str]) -> None:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self.wall, self.cpu = min(self.wall, wall), min(self.cpu, cpu)


def main() -> int:
    """Print a table of times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--check", action="store_true", help="exit with 1 if an aim is missed (by CPU time)")
    given = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env = {
        **os.environ,
        "FLUENCE_API_KEY": "key",
        "FLUENCE_BASE_URL": f"http://127.0.0.1:{server.server_address[1]}",
        "FLUENCE_CONFIG": os.devnull,
    }
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    cases = CASES | {f"import {name}": f"import {name}" for name in OTHERS if find_spec(name) is not None}
    best = {name: Best() for name in cases}
    for _ in range(given.rounds):
        for name, code in cases.items():
            best[name].run(code, env)
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
