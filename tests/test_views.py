"""Short reprs, tables in notebooks, and progress of a launch. Names never act as markup.

On virtual time; a real notebook's kernel is `test_notebook`'s.
"""

from __future__ import annotations

import asyncio
import re
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

import attrs
import pytest

from aiofluence import LaunchProgress, LaunchState, ProgressDisplay, Table
from aiofluence.display.table import age
from aiofluence.simulator import Provisioning, Simulator

from .harness import VIRTUAL, container_spec, session_on, vm_spec

EVIL = '<script>alert("x")</script>\x1b[2J'


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


def cells(html: str) -> list[list[str]]:
    return [[cell.text or "" for cell in row] for row in ElementTree.fromstring(html).iter("tr")]


async def test_every_list_is_a_table_and_a_list() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        await fluence.deploy_and_wait(container_spec(simulator))
        await fluence.deploy_and_wait(vm_spec(simulator))
        for rows in (
            await fluence.plans.containers(),
            await fluence.plans.vms(),
            await fluence.plans.baremetal(),
            await fluence.plans.find(),
            await fluence.images.list(),
            await fluence.containers.list(),
            await fluence.vms.list(),
        ):
            assert isinstance(rows, Table)
            assert rows == list(rows)
            head, *body = cells(rows._repr_html_())
            assert len(body) == len(rows)
            assert all(len(row) == len(head) for row in body)
            for row in rows:
                assert repr(row).startswith(f"<{type(row).__name__} '")
                assert len(repr(row)) < 200
        groups = await fluence.plans.vms()
        assert ", 1 GPU, " in repr(groups[0])
        options = groups[0].availability_by_number[0]
        assert repr(options).startswith("<MachineAvailability '1 GPU', ")
        assert "USDC/h" in repr(options.options[0])


async def test_an_instance_shows_price_and_age() -> None:
    simulator = Simulator(provisioning=Provisioning(median=100, sigma=0.0))
    async with session_on(simulator) as fluence:
        container = await fluence.deploy_and_wait(container_spec(simulator))
        price = container.billing.hourly_usage
        created = f"{container.created_at:%Y-%m-%d %H:%M} UTC"
        assert repr(container) == (
            f"<Container 'exp-1', ACTIVE, {container.resources.gpu_model.model} 16 GiB, "
            f"{price:f} USDC/h, since {created}, {container.id}>"
        )
        await asyncio.sleep(3600)
        assert created in repr(container)  # a repr tells what was fetched, whenever it is looked at
        rows = await fluence.containers.list()
        await asyncio.sleep(3600)
        head, row = cells(rows._repr_html_())
        assert row[head.index("age")] == "62 min"
        assert rows.at is not None
        assert f"as of {rows.at:%Y-%m-%d %H:%M} UTC" in rows._repr_html_()


async def test_a_report_shows_itself() -> None:
    simulator = Simulator()
    simulator.fail_next_provisioning(1)
    async with session_on(simulator) as fluence:
        report = await fluence.deploy_all_and_wait(container_spec(simulator, "exp-{i}").many(3))
    assert repr(report) == f"<Report 2 active, 1 failed, {report.hourly_cost:f} USDC/h>"
    html = report._repr_html_()
    head, *rows = cells(html)
    assert [row[head.index("status")] for row in rows] == ["failed", "active", "active"]
    assert rows[0][head.index("error")].startswith("InstanceFailedError: ")
    assert "2 active, 1 failed" in html
    assert "InstanceFailedError" in repr(report.failed[0])


async def test_nothing_from_elsewhere_is_obeyed() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        container = await fluence.deploy_and_wait(container_spec(simulator))
        (offer, *_) = await fluence.plans.find()
        (image, *_) = await fluence.images.list()
    evil = [
        attrs.evolve(container, name=EVIL, location=EVIL),
        attrs.evolve(offer, name=EVIL, locations=(EVIL,), provider=EVIL),
        attrs.evolve(image, slug=EVIL, name=EVIL, description=EVIL),
    ]
    html = Table[Any]([*evil, EVIL])._repr_html_()
    assert "<script" not in html
    assert html.isascii() or "\x1b" not in html
    ElementTree.fromstring(html)
    for row in evil:
        assert "\x1b" not in repr(row)


def test_a_table_is_cut_and_a_slice_is_a_table() -> None:
    rows = Table(range(250), at=datetime(2026, 1, 1, tzinfo=UTC))
    assert repr(rows).splitlines()[-1] == " … and 240 more]"
    assert rows._repr_html_().count("<tr>") == 101
    assert "100 of 250 rows, as of 2026-01-01 00:00 UTC" in rows._repr_html_()
    assert isinstance(rows[:3], Table)
    assert rows[:3].at == rows.at
    assert rows[3] == 3
    assert repr(rows[:3]) == "[0,\n 1,\n 2]"
    assert repr(Table[int]()) == "[]"
    assert "<table" not in Table[int]()._repr_html_()


@pytest.mark.parametrize(
    ("minutes", "text"), [(0, "0 min"), (-5, "0 min"), (119, "119 min"), (312, "5.2 h"), (17_280, "12 d")]
)
def test_ages(minutes: int, text: str) -> None:
    at = datetime(2026, 1, 20, tzinfo=UTC)
    assert age(at - timedelta(minutes=minutes), at) == text


# --- progress -----------------------------------------------------------------------------------------------


async def show(simulator: Simulator, display: ProgressDisplay) -> None:
    async with session_on(simulator) as fluence:
        await fluence.deploy_all_and_wait(
            container_spec(simulator, "exp-{i}").many(3), on_progress=display, max_hourly=Decimal(5)
        )


async def test_a_pipe_gets_one_line_for_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    await show(Simulator(), ProgressDisplay())
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "3 queued"
    assert "3 provisioning" in lines
    assert lines[-1] == "3 active"
    assert len(lines) == len(set(lines)) <= 6


async def test_a_terminal_line_counts_down(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    await show(Simulator(), ProgressDisplay())
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.endswith("3 active\n")
    states = told.split("\r\x1b[K")
    pending = [state for state in states if state.startswith("3 provisioning")]
    assert re.fullmatch(r"3 provisioning; about \d:\d\d min to go \(\d:\d\d to \d+:\d\d\)", pending[0])
    assert len(pending) > 60
    assert not any("about 0:00" in state for state in pending)


def test_progress_is_shown_from_the_start() -> None:
    display = ProgressDisplay()
    assert repr(display) == "nothing yet"
    ElementTree.fromstring(display._repr_html_())


async def test_the_bar_of_a_notebook() -> None:
    display = ProgressDisplay()
    counts: dict[str, int] = dict.fromkeys(LaunchState, 0) | {"active": 2, "failed": 1}
    spec = container_spec(Simulator())
    display(LaunchProgress(0, spec, LaunchState.ACTIVE, None, None, None, counts, 0.0))
    html = display._repr_html_()
    assert "flex:2" in html
    assert "2 active, 1 failed" in "".join(ElementTree.fromstring(html).itertext())
