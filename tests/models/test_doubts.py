"""Doubts about SSH: what the service accepts and what probably gives no login is said once, with the reason.

Asserts on the log records and on the rule itself. Virtual time.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest

from aiofluence import ContainerSpec, ContainerUpdate, Until
from aiofluence.simulator import Simulator

from ..harness import (
    IMAGE,
    OTHER_IMAGE,
    SSH_KEY,
    VIRTUAL,
    baremetal_spec,
    container_spec,
    session_on,
    vm_spec,
)

NGINX = {"image": "nginx:1.27", "ssh_key": None}
FOREIGN = {"image": "nginx:1.27", "ssh_key": SSH_KEY}


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


@pytest.mark.parametrize(
    ("fields", "doubt"),
    [
        ({}, None),
        ({"image": OTHER_IMAGE.removeprefix("docker.io/")}, None),
        ({"ssh_key": None}, "port 22 of"),
        ({"ssh_key": None, "expose": ["20-25"]}, "port 22 of"),
        ({"ssh_key": None, "expose": ["22/udp", 8000]}, None),
        ({"ssh_key": None, "expose": [8000]}, None),
        ({"ssh_key": None, "environment": {"SSH_PUBKEY": SSH_KEY}}, None),
        (NGINX | {"environment": {"SSH_PUBKEY": SSH_KEY}}, "ssh_key with nginx:1.27"),
        (FOREIGN, "ssh_key with nginx:1.27"),
        (FOREIGN | {"expose": [8000]}, "ssh_key with nginx:1.27"),
        (FOREIGN | {"startup_command": "sleep infinity"}, "ssh_key with nginx:1.27"),
        (FOREIGN | {"startup_command": "echo $SSH_PUBKEY > ~/.ssh/authorized_keys; sshd -D"}, None),
        (FOREIGN | {"image": "ghcr.io/evil/fluencelabs/x"}, "ssh_key with"),
    ],
)
def test_the_rule(fields: dict[str, Any], doubt: str | None) -> None:
    spec = container_spec(Simulator(), **fields)
    assert spec.problems() == []
    found = spec.doubts()
    assert [text.startswith(doubt) for text in found] == [True] if doubt else found == []
    assert spec.doubts(own_images=[spec.image]) == [text for text in found if text.startswith("port 22")]
    assert not any(SSH_KEY in text for text in found)


def test_machines_raise_no_doubts() -> None:
    simulator = Simulator()
    assert vm_spec(simulator).doubts() == baremetal_spec(simulator).doubts() == []


def warnings(log: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelno >= logging.WARNING]


@pytest.mark.anyio
async def test_a_session_warns_once_for_each_reason(caplog: pytest.LogCaptureFixture) -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        silent = container_spec(simulator, "good")
        await fluence.launch([silent, vm_spec(simulator)]).check()
        assert warnings(caplog) == []
        specs = container_spec(simulator, "exp-{i}", **NGINX).many(20)
        await fluence.launch(specs).check()  # a dry run says it as well
        (said,) = warnings(caplog)
        assert said.startswith("port 22 of nginx:1.27 without ssh_key: ")
        await fluence.deploy_all_and_wait(specs)
        await fluence.with_options(timeout=5).containers.deploy(container_spec(simulator, "view", **NGINX))
        assert warnings(caplog) == [said]
        await fluence.vms.deploy(vm_spec(simulator))
        await fluence.containers.deploy(container_spec(simulator, "key", **FOREIGN))
        assert [text.partition(": ")[0] for text in warnings(caplog)[1:]] == ["ssh_key with nginx:1.27"]
        for ref in await fluence.containers.list():
            await fluence.terminate_and_wait(ref)


@pytest.mark.anyio
async def test_listed_images_are_the_service_s_own(caplog: pytest.LogCaptureFixture) -> None:
    simulator = Simulator()
    plan_id = simulator.catalog.find("container").id
    async with session_on(simulator) as fluence:
        for image in await fluence.images.list():
            key = SSH_KEY if image.requires_ssh else None
            spec = image.to_spec(name=image.slug, plan_id=plan_id, ssh_key=key)
            await fluence.launch([spec]).check()
    assert warnings(caplog) == []


@pytest.mark.anyio
async def test_an_update_to_another_image_warns(caplog: pytest.LogCaptureFixture) -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        container = await fluence.deploy_and_wait(container_spec(simulator), until=Until.READY)
        await fluence.update_and_wait(container, ContainerUpdate.from_container(container, image=OTHER_IMAGE))
        assert warnings(caplog) == []
        foreign = ContainerUpdate.from_container(container, image="nginx:1.27")
        await fluence.update_and_wait(container, foreign)
        assert [text.partition(": ")[0] for text in warnings(caplog)] == ["ssh_key with nginx:1.27"]
        await fluence.terminate_and_wait(container)


def test_the_test_images_are_the_service_s_own() -> None:
    for image in (IMAGE, OTHER_IMAGE):
        assert ContainerSpec(name="a", plan_id="p", image=image, expose=[22], ssh_key=SSH_KEY).doubts() == []
