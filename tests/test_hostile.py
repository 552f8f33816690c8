"""Every parser of an answer takes time in proportion to its length, and gives a short result or error.

Measured as a ratio: of an input twice as long, and never against a number of seconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from aiofluence import Container, Event, FluenceError, LogLine, Machine, ReplyError, Size
from aiofluence.http.codec import structure
from aiofluence.http.dates import http_date, retry_after
from aiofluence.http.error_mapping import refusal
from aiofluence.http.messages import Answer, Call, Reply, decode_reply, decode_rows
from aiofluence.http.redaction import starred
from aiofluence.inventory import FORMATS, make_inventory
from aiofluence.models.money import read_amount
from aiofluence.models.ssh import ssh_access
from aiofluence.models.values import ports_from
from aiofluence.resources.offers import Wanted
from aiofluence.simulator import Simulator

from .harness import VIRTUAL, container_spec, sample, session_on
from .http.test_codec import DETAIL

CALL = Call("GET", "/gpu/instances/")


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


def refused(status: int, body: str, hidden: tuple[str, ...] = ("hidden-12", "aaaaaaaa", "<<<<<<<<")) -> None:
    error: ReplyError = refusal(status, {}, body.encode(), call="GET /x", hidden=hidden)
    assert len(str(error)) < 3000
    assert len(repr(vars(error))) < 300_000


def detail(text: str) -> None:
    for status in (400, 422, 500):
        refused(status, json.dumps({"detail": text}))


def problems(text: str) -> None:
    refused(422, json.dumps({"detail": [{"loc": ["body", text], "msg": text}] * 3}))


def page(text: str) -> None:
    refused(502, f"<html>{text}")
    refused(502, text)


def header(text: str) -> None:
    assert retry_after({"Retry-After": text, "Date": text}) is None
    assert http_date(text) is None
    refusal(302, {"Location": f"http://{text}"}, b"", call="GET /x", hidden=())


def machine(line: str) -> Any:
    fields = {
        name: value for name, value in DETAIL.items() if name not in ("instance_status", "container_info")
    }
    row = fields | {"status": "ACTIVE", "kind": "vm", "name": line, "ssh_connection": line}
    return structure(Answer(CALL, row), Machine)


def ssh(text: str) -> None:
    for line in (text, f"ssh {text}", f"ssh -p {text} a@b", f"ssh a@{text}", f"ssh {text}@b"):
        ssh_access(machine(line))


def inventory(text: str) -> None:
    reachable = attrs.evolve(machine(text), ssh_connection="ssh u@h")
    for kind in FORMATS:
        make_inventory([reachable, reachable, machine(text)], kind)
    assert len(repr(reachable)) < 2000


def value(text: str) -> None:
    for field in ("created_at", "instance_status", "billing"):
        error = failed(structure, Answer(CALL, DETAIL | {field: text}), Container)
        assert field == "instance_status" or error is not None
    for parse in (Size.parse, read_amount, ports_from):
        failed(parse, text)


def failed(call: Callable[..., object], *arguments: Any) -> Exception | None:
    """The error of a call, if it has one; it is short."""
    try:
        call(*arguments)
    except (FluenceError, ValueError) as error:
        short = len(f"{error}") < 300
        return error if short else pytest.fail("a long error")
    return None


def output(text: str) -> None:
    for raw in (text, f"[{text}", f"[a]: [{text}", f"[a]: [Normal] [b] {text}", f"[a]:{text}"):
        LogLine.parse(raw)
        Event.parse(raw)


def read_rows(reply: Reply) -> list[Any]:
    return list(decode_rows(CALL, reply))


def body(text: str) -> None:
    for raw in (f"[{text}", f"[1{text}", f"[1,{text}", f'{{"a": {text}'):
        reply = Reply(200, {}, raw.encode())
        assert failed(read_rows, reply) is not None
        failed(decode_reply, CALL, reply)


PARSERS: list[Callable[[str], None]] = [detail, problems, page, header, ssh, inventory, value, output, body]
PIECES = (
    *(
        " ",
        "a",
        "<title",
        "<title>",
        "<title> ",
        "[",
        "]",
        "[a] ",
        "'",
        "a@",
        " -p ",
        " -p 1",
        "@",
        ": ",
        ", ",
    ),
    *(
        "9",
        "9.",
        "update ",
        "plan ",
        "only active ",
        "already being ",
        "api key ",
        "os image ",
        "in progress ",
    ),
    *(
        "&#",
        "&#9",
        "%",
        "%41",
        "\\u",
        "\\",
        "-",
        "a-",
        ".",
        "é",
        "AbCd",
        "{",
        '{"a":',
        "<",
        "hidden-1",
        "\n",
        "/",
        "=",
    ),
)


def took(parser: Callable[[str], None], text: str) -> float:
    """Return the CPU seconds of the fastest of up to three runs. A run of 20 ms decides nothing."""
    times: list[float] = []
    while len(times) < 3 and (not times or 0.02 < times[-1] < 1):
        began = time.thread_time()
        parser(text)
        times.append(time.thread_time() - began)
    return min(times)


@pytest.mark.parametrize(("parser", "piece"), sample(5, PARSERS, PIECES))
def test_time_is_linear(parser: Callable[[str], None], piece: str) -> None:
    if parser is header and not piece.isascii():
        return
    short = took(parser, piece * (64_000 // len(piece)) + "!")
    long = took(parser, piece * (128_000 // len(piece)) + "!")
    # Below 50 ms the ratio is mostly noise, and a quadratic parser of 128 kB takes seconds.
    assert long < 0.05 or long < 3.5 * short, f"{short:.3f} s, then {long:.3f} s"


LARGE = ["<title", " ", "update ", "minimum run", "9 m ", "a", "&#9", "%41", "\\u0061", "hidden-1"]


@pytest.mark.parametrize(("parser", "piece"), sample(7, [detail, problems, page], LARGE))
def test_a_megabyte_takes_in_proportion(parser: Callable[[str], None], piece: str) -> None:
    short, long = (took(parser, piece * (size // len(piece))) for size in (64_000, 1_024_000))
    assert long < 0.2 or long < 40 * short, f"{short:.3f} s, then {long:.3f} s"


def test_secrets_are_redacted_in_bounded_time() -> None:
    secrets = [f"secret-{number:04}-&" for number in range(64)]
    text = " ".join(f"secret-{number:04}-&amp; %41 \\u0041" for number in range(64)) * 40
    began = time.thread_time()
    said = starred(text, secrets)
    plain = time.thread_time() - began
    assert "secret-00" not in said
    began = time.thread_time()
    starred(text * 2, secrets)
    assert time.thread_time() - began < max(0.1, 3 * plain)


async def test_hostile_names_are_shown_in_one_line() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        offers = await fluence.plans.find(kind="vm")
        seen = await fluence.deploy_and_wait(container_spec(simulator))
    for name in ("\ud800", "a\udfffb", "\x1b[31m", "x" * 1_000_000, "\u202e", "a\nb", ""):
        odd = attrs.evolve(seen, name=name, location=name)
        offer = attrs.evolve(offers[0], name=name, provider=name, locations=(name,))
        table = offers[:1]
        table.append(offer)
        shown = f"{odd!r}\n{odd.ref}\n{offer!r}"
        assert len(shown) < 4000
        assert shown.isprintable() or shown.count("\n") == 2
        (shown + repr(table) + table._repr_html_()).encode()
        for line in (LogLine.parse(name), Event.parse(name)):
            f"{line}".encode()
        assert Wanted.of({"gpu": "a"}).choose([offer]) is not None
