"""A canary key, registry password, environment value and SSH key, through everything that can go wrong.

They may be in the requests. They must be in no repr, text, log record, exception, traceback with locals
or pickle of an exception.
"""

from __future__ import annotations

import base64
import copy
import html
import json
import logging
import pickle
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote, quote_plus, unquote

import pytest

import aiofluence.sync
from aiofluence import (
    ConfigError,
    Container,
    ContainerSpec,
    ContainerUpdate,
    DeployPolicy,
    FluenceError,
    Poll,
    RegistryCredentials,
    Retry,
    Session,
    SpecError,
    Timeout,
    VMSpec,
)
from aiofluence.http.codec import check
from aiofluence.http.messages import Call, Headers, Reply, Request, refusal, safe_id
from aiofluence.simulator import Fault, Simulator, SimulatorServer

from .harness import FAST, RawServer

PACKAGE = Path(aiofluence.__file__).parent
CANARY = "canary"
KEY = "canary-key-31415926"
PASSWORD = "canary-password-27182818"
VALUE = "canary-value-\u00fc-16180339"
SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJd9 canary-ssh-14142135"
COMMAND = "run --token canary-command-17320508"


def canary_spec(simulator: Simulator, **fields: Any) -> ContainerSpec:
    given: dict[str, Any] = {
        "name": "exp-1",
        "plan_id": simulator.catalog.find("container").id,
        "image": "ghcr.io/me/train:1",
        "expose": [22],
        "environment": {"HF_TOKEN": VALUE},
        "startup_command": COMMAND,
        "credentials": RegistryCredentials("ghcr.io", "me", PASSWORD),
        "ssh_key": SSH,
    }
    return ContainerSpec(**(given | fields))


def canary_update() -> ContainerUpdate:
    credentials = RegistryCredentials("ghcr.io", "me", PASSWORD)
    return ContainerUpdate(
        name="exp-2", image="b", environment={"A": VALUE}, ssh_key=SSH, credentials=credentials
    )


@asynccontextmanager
async def canary_session(simulator: Simulator, **options: Any) -> AsyncIterator[Session]:
    hasty: dict[str, Any] = {
        "retry": Retry(base=0.001, max_wait=0.002, attempts=3, max_refusals=4),
        "timeout": Timeout(total=0.2),
        "poll": Poll(interval=0.02),
        "deploy": DeployPolicy(settle=0, watch=0, max_posts=1),
        "rate": FAST,
    }
    async with (
        SimulatorServer(simulator, time_scale=1000) as server,
        Session(KEY, base_url=server.url, **(hasty | options)) as session,
    ):
        yield session


def shown(error: BaseException) -> str:
    """All that could be printed of an exception, locals of every frame of ours included."""
    ours = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if _is_library(frame)]
    texts = [repr(frame.f_locals) for frame in ours]
    texts += [repr(error), str(error), repr(error.args), repr(vars(error)), repr(pickle.dumps(error))]
    assert error.__context__ is None or _is_ours(error.__context__), repr(error.__context__)
    assert error.__cause__ is None or _is_ours(error.__cause__)
    return "\n".join(texts)


def _is_library(frame: FrameType) -> bool:
    """The frames of a user's own code show what the user wrote: that is not the library's to hide."""
    path = Path(frame.f_code.co_filename)
    return PACKAGE in path.parents and PACKAGE / "simulator" not in path.parents


def _is_ours(error: BaseException) -> bool:
    return isinstance(error, FluenceError) and CANARY not in shown(error)


def test_the_check_itself_can_fail() -> None:
    with pytest.raises(ConfigError) as caught:
        unique_name_of_a_key = safe_id(f"{KEY} is no id")
        assert unique_name_of_a_key
    assert CANARY in shown(caught.value)


Use = Callable[[Session, Simulator], Awaitable[Any]]

USES: dict[str, Use] = {
    "deploy": lambda session, simulator: session.containers.deploy(canary_spec(simulator)),
    "post": lambda session, simulator: session.containers.post(canary_spec(simulator)),
    "deploy_and_wait": lambda session, simulator: session.deploy_and_wait(canary_spec(simulator), timeout=2),
    "vm": lambda session, simulator: session.vms.deploy(
        VMSpec(name="vm-1", plan_id="unknown", ssh_key=SSH, os_image="x")
    ),
    "update": lambda session, _: session.containers.update("unknown", canary_update()),
    "bad_spec": lambda session, simulator: session.containers.deploy(
        canary_spec(
            simulator,
            name="Bad Name",
            environment={"lower": VALUE},
            credentials=RegistryCredentials("quay.io", "", PASSWORD),
            ssh_key=f"PRIVATE KEY {SSH}",
        )
    ),
    "list": lambda session, _: session.containers.list(),
    "get": lambda session, _: session.containers.get("unknown"),
    "request": lambda session, _: session.request("POST", "/gpu/instances/", json={"value": VALUE}),
    "not_json": lambda session, _: session.request("POST", "/gpu/instances/", json={"value": {VALUE}}),
}

# The service repeats what it was sent, and nothing else.
SENT: dict[str, list[str]] = {
    **{use: [KEY, VALUE, PASSWORD, SSH, COMMAND] for use in ("deploy", "post", "deploy_and_wait")},
    "vm": [KEY, SSH],
    "update": [KEY, VALUE, PASSWORD, SSH],
    "request": [KEY, VALUE],
}


def faults(sent: list[str]) -> dict[str, Fault | None]:
    echo = {"detail": f"cannot use {' nor '.join(sent)}"}
    fields = [
        {"type": "v", "loc": ["body", "a", index], "msg": f"not {secret}", "input": {"a": secret}}
        for index, secret in enumerate(sent)
    ]
    return {
        "none": None,
        "refuse": Fault.refuse(),
        "reset": Fault.reset(),
        "cut": Fault.cut(),
        "hang": Fault.hang(),
        "broken-json": Fault.body(f'{{"instance_id": "{sent[0]}'.encode()),
        "wrong-shape": Fault.body({"instance_id": {"password": sent[-1]}, "detail": KEY}),
        "html": Fault.body(f"<html>{sent}</html>"),
        "echo-200": Fault.body({"detail": f"Insufficient balance: {' nor '.join(sent)}"}),
        "plain-400": Fault.status(400, f"cannot use {sent}"),
        **{f"echo-{code}": Fault.status(code, echo) for code in (400, 401, 403, 404, 409, 429, 500, 503)},
        "fields-422": Fault.status(422, {"detail": fields}),
        "redirect": Fault.status(307, b"", {"Location": f"https://evil.example/?key={KEY}"}),
        "page-502": Fault.status(502, f"<html><title>{' '.join(sent)}</title></html>"),
    }


SENDS_NOTHING = {"bad_spec", "not_json"}
ALL = 1_000_000


@pytest.mark.parametrize("fault", faults([KEY]))
@pytest.mark.parametrize("use", USES)
async def test_nothing_shows_a_secret(use: str, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    simulator = Simulator(api_key=KEY)
    struck = faults(SENT.get(use, [KEY]))[fault]
    if struck is not None:
        simulator.fail("PUT /gpu/instances/{id}" if use == "update" else "*", struck, times=ALL)
    caplog.set_level(logging.DEBUG)
    found: list[str] = []
    async with canary_session(simulator) as session:
        try:
            result = await USES[use](session, simulator)
        except FluenceError as error:
            found.append(shown(error))
            found.extend(shown(attempt.error) for attempt in error.attempts)
        else:
            found.append(repr(result))
        strikes = sum(ALL - (script.times or 0) for script in simulator.scripts)
        assert bool(strikes) is (struck is not None and use not in SENDS_NOTHING)
        simulator.clear_faults()
        found += map(repr, (session, *vars(session).values()))
    found += [record.getMessage() + repr(record.args) + repr(record.exc_info) for record in caplog.records]
    for text in found:
        at = text.find(CANARY)
        assert at < 0, text[max(0, at - 300) : at + 60]


TOKEN = "postgres://app:canary'\"</\\\u00e4\U0001f600\n&b=2+%41;é"
"""Whatever an encoding changes."""


def _as_go(text: str) -> str:
    for char in "&<>":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


ENCODINGS: dict[str, Callable[[str], str]] = {
    "json": lambda text: json.dumps(text)[1:-1],
    "json-upper": lambda text: json.dumps(text)[1:-1].replace("\\u00e", "\\u00E"),
    "json-utf8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "go": lambda text: _as_go(json.dumps(text)[1:-1]),
    "php": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "html": html.escape,
    "html-numbers": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "html-hex": lambda text: "".join(f"&#X{ord(char):X};" for char in text),
    "url": lambda text: quote(text, safe=""),
    "url-lower": lambda text: quote(text).lower().replace("%c3%a4", "%C3%a4"),
    "form": quote_plus,
    "uri": lambda text: quote(text, safe="+&=;/:'@"),
    "repr": lambda text: repr(text)[1:-1],
    "ascii": lambda text: ascii(text)[1:-1],
    "base64": lambda text: base64.b64encode(f"me:{text}".encode()).decode(),
    "base64-url": lambda text: base64.urlsafe_b64encode(f"me:{text}".encode()).decode().rstrip("="),
    "plain": lambda text: text,
}


@pytest.mark.parametrize("inner", ENCODINGS)
@pytest.mark.parametrize("outer", ["plain", "json", "html", "url"])
@pytest.mark.parametrize("secret", [TOKEN, VALUE, "canary-simple-1"], ids=["token", "value", "simple"])
def test_a_secret_is_starred_in_every_encoding(inner: str, outer: str, secret: str) -> None:
    body = json.dumps({"environment": [{"name": "DB", "value": secret}]}).encode()
    call = Call("POST", "/gpu/instances/").to(body=body)
    echo = ENCODINGS[outer](ENCODINGS[inner](secret))
    fields = [
        {"loc": ["body", "a"], "msg": f"no {echo}!", "input": secret},
        {"loc": ["body", echo], "msg": "no"},
    ]
    for status, said in (
        (400, {"detail": f"cannot use {echo}: is the balance low?"}),
        (422, {"detail": fields}),
        (500, {"error": {"message": [f"saw {echo}"]}}),
        (500, f"saw {echo}"),
        (502, f"<html><TITLE lang=en>saw {echo}</title>"),
        (401, {"info": {"seen": echo}}),
    ):
        content = said if isinstance(said, str) else json.dumps(said)
        error = refusal(call, Reply(status, {}, content.encode()))
        texts = f"{error} {error!r} {vars(error)} {pickle.dumps(error)!r}"
        for hidden in (CANARY, base64.b64encode(b"canary")[:7].decode()):
            assert hidden not in unquote(texts), (status, texts)
    assert (
        "cannot use"
        in refusal(call, Reply(400, {}, json.dumps({"detail": f"cannot use {echo}"}).encode())).args[0]
    )


def test_short_secrets_are_starred_as_whole_words() -> None:
    call = Call(
        "POST", "/gpu/instances/", body=b'{"value": "abc1", "password": "on", "ssh_key": " key-14142 "}'
    )
    error = refusal(call, Reply(400, {}, b'{"detail": "abc1 is on abc12, said key-14142"}'))
    assert error.args[0].startswith("*** is on abc12, said ***")


def test_a_cut_reply_shows_no_part_of_a_secret() -> None:
    secret = "canary-" * 900
    call = Call("POST", "/gpu/instances/", body=json.dumps({"value": secret}).encode())
    for shift in range(0, 7000, 500):
        error = refusal(call, Reply(400, {}, json.dumps({"detail": "x" * shift + secret * 9}).encode()))
        assert CANARY not in str(error)


async def test_nothing_with_the_key_can_be_pickled() -> None:
    simulator = Simulator(api_key=KEY)
    request = Request("GET", "/gpu/plans/", headers={"X-API-KEY": KEY}, body=VALUE.encode())
    async with canary_session(simulator) as session, session.running(canary_spec(simulator)):
        view = session.with_options(timeout=9)
        held = [getattr(session, name) for name in vars(session) if name != "_tails"]
        held += [getattr(view, name) for name in vars(view)]
        held += [session, view, Headers({"X-API-KEY": KEY}), request]
        held += [Call("POST", "/gpu/x", body=VALUE.encode())]
        for one in held:
            with pytest.raises((TypeError, AttributeError)) as caught:
                pickle.dumps(one)
            assert CANARY not in f"{caught.value} {one!r} {getattr(one, '__dict__', None)!r}"
        for one in (session.plans, session.images, session.containers, session.vms, request):
            for travel in (pickle.dumps, copy.deepcopy):
                with pytest.raises(TypeError):
                    travel(one)
    with aiofluence.sync.Session(KEY, base_url="http://localhost:9") as blocking:
        for one in (blocking, blocking.plans, blocking.containers):
            with pytest.raises(TypeError):
                pickle.dumps(one)


async def test_details_show_no_secret() -> None:
    simulator = Simulator(api_key=KEY)
    async with canary_session(simulator, deploy=None) as session:
        container = await session.deploy_and_wait(canary_spec(simulator))
        update = ContainerUpdate.from_container(container)
        assert isinstance(container, Container)
        assert update.ssh_key == SSH
        assert container.container_info.environment["HF_TOKEN"] == VALUE
        assert CANARY not in f"{container!r} {container} {update!r} {canary_spec(simulator)!r}"


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": KEY + "\r\n" + KEY},
        {"base_url": "http://evil.example"},
        {"user_agent_suffix": "a\r\nb"},
        {"max_in_flight": 0},
        {"close_timeout": -1},
    ],
    ids=str,
)
def test_a_failed_session_shows_no_key(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        Session(**({"api_key": KEY} | options))
    assert KEY not in shown(caught.value)


def test_a_key_from_file_or_variable_is_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY} {KEY}")
    monkeypatch.delenv("FLUENCE_API_KEY", raising=False)
    monkeypatch.setenv("FLUENCE_API_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(ConfigError) as caught:
        Session()
    assert KEY not in shown(caught.value)


def test_spec_problems_never_quote_secrets() -> None:
    spec = canary_spec(Simulator(), environment={"A": 5, "b": VALUE}, ssh_key=5, startup_command=["x", VALUE])
    with pytest.raises(SpecError) as caught:
        check([spec])
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 422, 429, 500])
async def test_an_access_token_is_as_secret_as_a_key(
    status: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("FLUENCE_API_KEY", "FLUENCE_API_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLUENCE_ACCESS_TOKEN", KEY)
    caplog.set_level(logging.DEBUG)
    body = json.dumps({"detail": f"cannot use Authorization: Bearer {KEY} or {quote(KEY)}"}).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    hasty = Retry(base=0.001, max_wait=0.002, attempts=2, max_refusals=2)
    found: list[str] = []
    async with (
        RawServer(then=head.encode() + body) as server,
        Session(base_url=server.url, retry=hasty, rate=FAST) as session,
    ):
        for call in (session.plans.containers, session.account.balance, session.account.permissions):
            with pytest.raises(FluenceError) as caught:
                await call()
            found += [shown(caught.value), *(shown(attempt.error) for attempt in caught.value.attempts)]
        found += map(repr, (session, *vars(session).values()))
        for one in (session, session.account):
            with pytest.raises(TypeError):
                pickle.dumps(one)
    assert all(f"authorization: bearer {KEY}".encode() in head.lower() for head in server.heads)
    assert not any(b"x-api-key" in head.lower() for head in server.heads)
    found += [record.getMessage() + repr(record.args) for record in caplog.records]
    assert not [text for text in found if CANARY in text]


def test_an_invalid_access_token_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLUENCE_API_KEY", "FLUENCE_API_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLUENCE_ACCESS_TOKEN", f"{KEY} {KEY}")
    with pytest.raises(ConfigError) as caught:
        Session()
    assert KEY not in shown(caught.value)
