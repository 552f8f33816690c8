"""A real notebook's kernel: top-level await, tables, the picture, the progress, and the door without async.

The kernel is a process of its own; what it answers is collected cell by cell.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

NOTEBOOK = """
from jupyter_client.manager import start_new_kernel
import json, sys

manager, client = start_new_kernel(kernel_name="python3")
said = []
try:
    for cell in json.load(sys.stdin):
        messages = []
        reply = client.execute_interactive(cell, timeout=40, output_hook=messages.append)
        said.append([[m["msg_type"], m["content"]] for m in messages if m["msg_type"] != "status"])
        if reply["content"]["status"] != "ok":
            raise SystemExit("\\n".join(reply["content"]["traceback"]))
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
print(json.dumps(said))
"""

CELLS = [
    """
from contextlib import AsyncExitStack
from aiofluence import ContainerSpec, Poll, ProgressDisplay, Session, sync
from aiofluence.simulator import DEFAULT_API_KEY, Provisioning, Simulator, SimulatorWire
simulator = Simulator(provisioning=Provisioning(median=0.2, sigma=0.0))
options = {"wire": SimulatorWire(simulator), "poll": Poll(interval=0.05)}
stack = AsyncExitStack()
fluence = await stack.enter_async_context(Session(DEFAULT_API_KEY, **options))
""",
    """
offers = await fluence.plans.find(kind="container")
spec = ContainerSpec(name="exp-{i}", plan_id=offers[0].plan_id, image="ollama/ollama:0.6.5", expose=[11434])
offers
""",
    "report = await fluence.deploy_all_and_wait(spec.many(3), on_progress=ProgressDisplay())",
    "report",
    "report.timeline()",
    "report.instances[0]",
    "await stack.aclose()",
    """
with sync.Session(DEFAULT_API_KEY, **options | {"wire": SimulatorWire(simulator)}) as plain:
    again = ContainerSpec(name="again", plan_id=spec.plan_id, image="ollama/ollama:0.6.5", expose=[11434])
    plain.deploy_all_and_wait([again], on_progress=ProgressDisplay())
""",
]


@pytest.fixture(scope="module")
def said() -> list[list[tuple[str, Any]]]:
    ran = subprocess.run(
        [sys.executable, "-c", NOTEBOOK], input=json.dumps(CELLS), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    answer: list[list[tuple[str, Any]]] = json.loads(ran.stdout)
    return answer


def shown(cell: list[tuple[str, Any]], kind: str) -> list[dict[str, str]]:
    return [content["data"] for message, content in cell if message == kind]


def test_a_list_and_a_report_are_tables(said: list[list[tuple[str, Any]]]) -> None:
    (offers,) = shown(said[1], "execute_result")
    assert offers["text/html"].startswith("<div><table>")
    assert offers["text/plain"].startswith("[<Offer '")
    (report,) = shown(said[3], "execute_result")
    assert "3 active" in report["text/html"]
    assert report["text/plain"].startswith("<Report 3 active, ")
    (container,) = shown(said[5], "execute_result")
    assert container["text/plain"].startswith("<Container 'exp-0', ACTIVE, ")


def test_the_picture_shows_itself(said: list[list[tuple[str, Any]]]) -> None:
    (picture,) = shown(said[4], "execute_result")
    assert picture["image/svg+xml"].startswith("<svg")


@pytest.mark.parametrize(("cell", "count"), [(2, 3), (7, 1)])
def test_the_progress_is_one_bar_that_is_redrawn(
    said: list[list[tuple[str, Any]]], cell: int, count: int
) -> None:
    (first,) = shown(said[cell], "display_data")
    assert f"{count} queued" in first["text/html"]
    assert f"{count} active" in shown(said[cell], "update_display_data")[-1]["text/html"]
    assert not [content for kind, content in said[cell] if kind == "stream"]
