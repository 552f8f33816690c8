"""Meanings of replies: `decode_reply` over every body shape of the contract, and over some others."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import attrs
import pytest

import aiofluence
from aiofluence import (
    AuthError,
    ConfigError,
    DecodeError,
    FluenceError,
    InsufficientBalanceError,
    InvalidRequestError,
    MinimumRuntimeError,
    NotActiveError,
    NotFoundError,
    PlanUnavailableError,
    RateLimitedError,
    RefusedError,
    Reply,
    ReplyError,
    ServerError,
    UnsupportedImageError,
    UpdateInProgressError,
)
from aiofluence.http import error_mapping as refusals
from aiofluence.http.dates import retry_after
from aiofluence.http.messages import Call, Request, Retryable, decode_reply, decode_rows
from aiofluence.http.redaction import starred
from aiofluence.http.retry import Retry, may_repeat

GET = Call("GET", "/gpu/instances/{id}", retryable=Retryable.ALWAYS).to("i-1")
POST = Call("POST", "/gpu/instances/")
DELETE = Call("DELETE", "/gpu/instances/{id}", retryable=Retryable.CHECK_FIRST).to("i-1")

HTML = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


def refusal(status: int, body: Any, headers: dict[str, str] | None = None) -> ReplyError:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ReplyError) as caught:
        decode_reply(GET, Reply(status, headers or {}, content))
    assert caught.value.status == status
    assert caught.value.call == "GET /gpu/instances/i-1"
    return caught.value


@pytest.mark.parametrize(
    ("status", "body", "kind", "detail"),
    [
        (401, {"detail": "Not authenticated"}, AuthError, "Not authenticated"),
        (403, {"error": "Invalid API key", "code": "forbidden"}, AuthError, "Invalid API key"),
        (403, {"detail": "Forbidden"}, AuthError, "Forbidden"),
        (404, {"detail": "Instance not found"}, NotFoundError, "Instance not found"),
        (429, b"", RateLimitedError, "no explanation given"),
        (500, {"detail": "Internal"}, ServerError, "Internal"),
        (502, HTML, ServerError, "502 Bad Gateway"),
        (503, b"", ServerError, "no explanation given"),
        (504, b"\xff\xfe", ServerError, "no explanation given"),
        (405, {"detail": "Method Not Allowed"}, ReplyError, "Method Not Allowed"),
        (400, {"detail": "The moon is full"}, RefusedError, "The moon is full"),
    ],
)
def test_each_status_has_its_error(status: int, body: Any, kind: type[ReplyError], detail: str) -> None:
    error = refusal(status, body)
    assert type(error) is kind
    assert error.detail == detail
    assert detail in str(error)
    assert str(status) in str(error)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Insufficient balance to deploy instance", InsufficientBalanceError),
        ("Plan is no longer available", PlanUnavailableError),
        ("The selected plan is not available", PlanUnavailableError),
        ("Unsupported OS image. Valid options: ubuntu-22.04", UnsupportedImageError),
        ("Only ACTIVE instances can be terminated", NotActiveError),
        ("Instance is not active", NotActiveError),
        ("A previous update is still being applied", UpdateInProgressError),
        ("Update already in progress", UpdateInProgressError),
        ("Malformed API key", AuthError),
        ("Minimum runtime not met", MinimumRuntimeError),
        ("MINIMUM RUN TIME of 20 minutes not reached", MinimumRuntimeError),
        ("Instance must be active for at least 20 minutes", MinimumRuntimeError),
        ("The minimum rental period has not passed", MinimumRuntimeError),
    ],
)
def test_a_400_is_told_apart_by_its_text(text: str, kind: type[ReplyError]) -> None:
    assert type(refusal(400, {"detail": text})) is kind


@pytest.mark.parametrize(
    ("status", "text", "reason"),
    [
        (401, "API key expired", "expired"),
        (403, "Your key has expired", "expired"),
        (403, "Read-only keys are not allowed", "read-only"),
        (403, "API key is read only", "read-only"),
        (400, "Malformed API key", None),
        (403, "forbidden", None),
    ],
)
def test_an_auth_error_names_the_keys_problem(status: int, text: str, reason: str | None) -> None:
    error = refusal(status, {"error": text, "code": "forbidden"})
    assert isinstance(error, AuthError)
    assert error.reason == reason
    assert error.detail == pickle.loads(pickle.dumps(error)).detail == text
    assert (reason is None) == ("make " not in str(error))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Minimum runtime not met", None),
        ("Minimum runtime of 20 minutes not met", None),
        ("Minimum runtime not met: 13 minutes remaining (of 20 minutes)", 780),
        ("Minimum runtime not met. Minimum 20 minutes, remaining 13 min", 780),
        ("Minimum runtime not met, try again in 12 minutes and 30 seconds", 750),
        ("Minimum runtime not met; wait 12m30s", 750),
        ("Minimum runtime not met. Please wait 90 more seconds", 90),
        ("Minimum runtime not met: 1.5 hours left", 5400),
    ],
)
def test_the_time_left_is_read_from_the_text(text: str, seconds: float | None) -> None:
    error = refusal(400, {"detail": text})
    assert isinstance(error, MinimumRuntimeError)
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    "text",
    [
        "Unsupported OS image 'win'. Valid options: ubuntu-22.04, debian-12",
        "Unsupported os_image, use one of: ['ubuntu-22.04', 'debian-12']",
        'Unsupported OS image: "ubuntu-22.04", "debian-12".',
    ],
)
def test_the_valid_images_are_read_from_the_text(text: str) -> None:
    error = refusal(400, {"detail": text})
    assert isinstance(error, UnsupportedImageError)
    assert error.options == ("ubuntu-22.04", "debian-12")


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("Unsupported OS image", ()),
        ("The OS image is not supported for the selected offer.", ()),
        ("Unsupported OS image: ", ()),
        ("OS image x is not supported. Available OS images: Ubuntu Server 22.04", ("Ubuntu Server 22.04",)),
    ],
)
def test_no_list_of_images_means_no_options(text: str, options: tuple[str, ...]) -> None:
    error = refusal(400, {"detail": text})
    assert isinstance(error, UnsupportedImageError)
    assert error.options == options


def test_a_422_names_fields_and_quotes_nothing() -> None:
    error = refusal(
        422,
        {
            "detail": [
                {
                    "type": "value_error",
                    "loc": ["body", "container_settings", "expose", 0, "port"],
                    "msg": "Value error, Port must be between 1 and 65535",
                    "input": "canary",
                    "ctx": {"error": {}},
                },
                {
                    "type": "missing",
                    "loc": ["body", "name"],
                    "msg": "Field required",
                    "input": {"a": "canary"},
                },
                "not an object",
            ]
        },
    )
    assert isinstance(error, InvalidRequestError)
    assert error.problems == (
        "container_settings.expose[0].port: Value error, Port must be between 1 and 65535",
        "name: Field required",
    )
    assert "canary" not in str(error) + repr(error) + str(vars(error))


def test_a_redirect_names_scheme_and_host() -> None:
    error = refusal(307, b"", {"Location": "http://evil.example:8080/steal?key=canary"})
    assert type(error) is ReplyError
    assert "http://evil.example" in str(error)
    assert "canary" not in str(error)


def test_a_success_is_decoded() -> None:
    assert decode_reply(GET, Reply(200, {}, b'{"a": [1]}')) == {"a": [1]}
    assert decode_reply(POST, Reply(201, {}, b'{"instance_id": "i"}')) == {"instance_id": "i"}
    assert decode_reply(DELETE, Reply(204, {}, b"")) is None
    assert decode_reply(DELETE, Reply(200, {}, b" ")) is None


@pytest.mark.parametrize("method", [DELETE, attrs.evolve(DELETE, method="PUT")])
@pytest.mark.parametrize("body", [b"<html>Hotel Wifi", b'{"error": "no"}', b"[]"])
def test_a_success_with_a_strange_body_is_none(method: Call, body: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_reply(method, Reply(200, {}, body))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 422])
@pytest.mark.parametrize(
    "body", [b"", b"404 page not found", HTML, b"[1, 2]", b'{"message": "Forbidden"}', b"{}"]
)
def test_a_gateways_reply_is_a_decode_error(status: int, body: bytes) -> None:
    with pytest.raises(DecodeError, match=str(status)) as caught:
        decode_reply(GET, Reply(status, {}, body))
    assert caught.value.status == status


@pytest.mark.parametrize("depth", [3, 4, 500])
def test_the_words_of_a_deep_reply(depth: int) -> None:
    body = b"[" * depth + b'"too small"' + b"]" * depth
    text = str(refusal(400, b'{"detail": ' + body + b"}"))
    assert ("too small" in text) is (depth == 3)


def test_a_date_before_1970_is_no_retry_after() -> None:
    assert retry_after({"Retry-After": "Wed, 31 Dec 1969 23:59:59 GMT"}) is None
    assert retry_after({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}) == 0


def test_a_refusal_with_status_200_is_a_refusal() -> None:
    with pytest.raises(InsufficientBalanceError, match="Insufficient balance") as caught:
        decode_reply(POST, Reply(200, {}, b'{"detail": "Insufficient balance"}'))
    assert caught.value.status == 200
    assert decode_reply(POST, Reply(200, {}, b'{"error": "?"}')) == {"error": "?"}  # no instance id: unclear


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"<html>canary</html>", "not JSON"),
        (b'{"canary": NaN}', "not JSON"),
        (b'{"canary": Infinity}', "not JSON"),
        (b'{"canary": 1', "not JSON"),
        (b'"canary \xff"', "not UTF-8"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    ],
)
def test_a_2xx_without_json_hides_the_body(body: bytes, problem: str) -> None:
    with pytest.raises(DecodeError, match=problem) as caught:
        decode_reply(GET, Reply(200, {}, body))
    error = caught.value
    assert error.__context__ is None
    assert "canary" not in f"{error!r} {error} {vars(error)}"


@pytest.mark.parametrize(
    ("header", "date", "seconds"),
    [
        ("7", None, 7.0),
        ("0.5", None, None),
        ("86400", None, 86400.0),
        ("Wed, 21 Oct 2026 07:28:10 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", 10.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", 0.0),
        ("", None, None),
        ("inf", None, None),
        ("nan", None, None),
        ("-5", None, None),
        ("soon", "Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("Wed, 21 Oct 2026 07:28:10 -0000", "Wed, 21 Oct 2026 07:28:00", 10.0),
        ("Wed, 21 Oct 2026 09:28:10 +0200", "Wed, 21 Oct 2026 07:28:00 GMT", 10.0),
        ("Wed, 21 Oct 2026 07:28:10 +99999999999999", "Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -0100", "Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_retry_after(header: str, date: str | None, seconds: float | None) -> None:
    headers = {"Retry-After": header} | ({"Date": date} if date else {})
    assert retry_after(headers) == seconds
    limited = refusal(429, b"", headers)
    assert isinstance(limited, RateLimitedError)
    assert limited.retry_after == seconds
    busy = refusal(503, b"", headers)
    assert isinstance(busy, ServerError)
    assert busy.retry_after == seconds


DATE = "Wed, 21 Oct 2026 07:28:10 GMT"


@pytest.mark.parametrize(
    "header", ["+1", "1_0", "1e2", "\u0661\u0662\u0660", "1 0", "0x10", "1.0", "7s", "9" * 400]
)
def test_retry_after_is_digits_or_a_date(header: str) -> None:
    assert retry_after({"Retry-After": header}) is None


def test_a_retry_date_uses_the_last_known_time() -> None:
    known = datetime(2026, 10, 21, 7, 28, tzinfo=UTC)
    assert retry_after({"Retry-After": DATE}, known) == 10
    assert retry_after({"Retry-After": DATE, "Date": "Wed, 21 Oct 2026 07:28:07 GMT"}, known) == 3
    opens = datetime.now(UTC) + timedelta(seconds=60)  # nothing is known but this machine's time
    seconds = retry_after({"Retry-After": format_datetime(opens, usegmt=True)})
    assert seconds is not None
    assert 30 < seconds <= 60


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"Insufficient balance", "Insufficient balance"),
        (b'"Insufficient balance"', "Insufficient balance"),
        (b'{"message": "Insufficient balance"}', "Insufficient balance"),
        (b'{"detail": {"msg": "Insufficient balance", "code": 7}}', "Insufficient balance"),
        (b'{"error": {"code": 7, "message": "Insufficient balance"}}', "Insufficient balance"),
        (b'{"errors": ["Insufficient balance", {"message": "top up"}]}', "Insufficient balance; top up"),
        (b'{"detail": ["Insufficient balance"]}', "Insufficient balance"),
        (b'{"type": "about:blank", "title": "Insufficient balance"}', "Insufficient balance"),
        (b'{"code": 7, "reason": "Insufficient balance", "input": "canary"}', "Insufficient balance"),
    ],
)
def test_a_400_in_another_shape_shows_its_text(body: bytes, detail: str) -> None:
    error = refusals.refusal(400, {}, body, call="POST /gpu/instances/", hidden=())
    assert type(error) is InsufficientBalanceError
    assert error.detail == detail


@pytest.mark.parametrize(
    "location", ["http://[::1/", "http://a]b/", "//\u2100", "http://" + "[" * 99_999, "http://x:99999999/"]
)
def test_a_redirect_to_no_address_is_a_refusal(location: str) -> None:
    error = refusal(302, b"", {"Location": location})
    assert type(error) is ReplyError
    assert "check base_url" in error.detail
    assert len(error.detail) < 200


@pytest.mark.parametrize(
    "text",
    ["OS image not supported", "Unsupported image, sorry", "OS image 'win' is not supported", "os_image: "],
)
def test_a_text_that_lists_no_images_gives_none(text: str) -> None:
    error = refusal(400, {"detail": text})
    assert type(error) is UnsupportedImageError
    assert error.options == ()


def test_stars_do_not_hide_the_kind_of_a_400() -> None:
    call = Call("POST", "/gpu/instances/", body=b'{"environment": [{"name": "A", "value": "balance"}]}')
    with pytest.raises(InsufficientBalanceError) as caught:
        decode_reply(call, Reply(400, {}, b'{"detail": "Insufficient balance"}'))
    assert caught.value.detail == "Insufficient ***"


@pytest.mark.parametrize("id", ["", "../plans", "a?x", "..", "a/b", "a b", "a\r\nb", "x" * 65, "ä", 5])
def test_what_is_no_id_never_reaches_a_path(id: Any) -> None:
    call = Call("GET", "/gpu/instances/{id}")
    with pytest.raises(ConfigError, match="not the id"):
        call.to(id)


def test_a_call_shows_no_body() -> None:
    call = POST.to(body=b"canary", query={"last": 5, "absent": None})
    assert "canary" not in repr(call) + str(call)
    assert call.query == {"last": "5"}
    assert call.retryable is Retryable.NEVER


def test_reprs_show_neither_headers_nor_body() -> None:
    request = Request("POST", "/gpu/instances/", headers={"X-API-KEY": "canary"}, body=b"canary")
    assert "canary" not in repr(request)
    assert "canary" not in repr(Reply(200, {"Set-Cookie": "canary"}, b"canary"))


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (b"<html><title> Busy </title></html>", "Busy"),
        (b"<html><TITLE lang='en'>Busy</TITLE></html>", "Busy"),
        (b"<html><h1>Busy</h1></html>", "no explanation given"),
        (b"<html><title>Busy", "no explanation given"),
        (b"<html><title", "no explanation given"),
    ],
)
def test_of_a_page_the_title_is_shown(page: bytes, words: str) -> None:
    error = refusal(502, page)
    assert isinstance(error, ServerError)
    assert error.detail == words


@pytest.mark.parametrize("text", ["[]", " [ ] ", "[1]", '[1, {"a": [2]} ,"]"]', "[1,\n2]\n"])
def test_rows_are_decoded_one_by_one(text: str) -> None:
    call = Call("GET", "/gpu/instances/")
    assert list(decode_rows(call, Reply(200, {}, text.encode()))) == json.loads(text)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[",
        b"[1",
        b"[1,",
        b"[1,]",
        b"[1 2]",
        b"\xff",
        b"[NaN]",
        b"[1] 2",
        b"[" * 100_000,
    ],
)
def test_rows_that_are_none(body: bytes) -> None:
    with pytest.raises(DecodeError):
        list(decode_rows(Call("GET", "/gpu/instances/"), Reply(200, {}, body)))


@pytest.mark.parametrize(
    ("value", "shown"),
    [("on", "cannot use on"), ("abc", "cannot use ***"), ("abcdef", "cannot use ***")],
)
def test_two_characters_are_no_secret(value: str, shown: str) -> None:
    body = json.dumps({"environment": [{"name": "A", "value": value}]}).encode()
    with pytest.raises(RefusedError) as caught:
        decode_reply(
            POST.to(body=body), Reply(400, {}, json.dumps({"detail": f"cannot use {value}"}).encode())
        )
    assert caught.value.detail == shown


def test_a_cut_text_ends_before_a_secret() -> None:
    secret = "0123456789" * 4
    text = "x " * 8182 + secret  # of which 20 characters are read
    assert starred(text, ["abcdef", secret]) == "x " * 8172


def subclasses(kind: type[BaseException]) -> list[type[BaseException]]:
    return [kind, *(found for child in kind.__subclasses__() for found in subclasses(child))]


@pytest.mark.parametrize("kind", subclasses(FluenceError), ids=lambda kind: kind.__name__)
def test_errors_are_public_and_can_be_pickled(kind: type[FluenceError]) -> None:
    assert getattr(aiofluence, kind.__name__) is kind
    error = kind(("one", "two")) if kind is aiofluence.SpecError else kind("what happened")
    error.call = "GET /gpu/plans/"
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert copy.call == error.call


def test_whether_a_call_may_be_repeated_is_data() -> None:
    never_left = aiofluence.NotSentError("refused")
    hopeless = aiofluence.NotSentError("bad certificate", permanent=True)
    lost = aiofluence.NoReplyError("reset")
    throttled = RateLimitedError("slow", status=429)
    broken = ServerError("oops", status=502)
    cdn = ServerError("oops", status=522)
    early = aiofluence.ReplyError("too early", status=425)
    page = DecodeError("a page", status=404)
    portal = DecodeError("a portal")
    final = RefusedError("no", status=400)
    errors = [never_left, hopeless, lost, throttled, broken, cdn, early, page, portal, final]
    once = [True, False, *[False] * 8]
    table = [(GET, [True, False, *[True] * 6, False, False]), (DELETE, once), (POST, once)]
    for call, expected in table:
        assert [may_repeat(call, error) for error in errors] == expected, call.method


def test_waits_are_bounded() -> None:
    waits = Retry(base=0.5, max_wait=8).waits()
    drawn = [next(waits) for _ in range(2000)]
    assert 0 <= min(drawn) <= max(drawn) <= 8
    assert max(drawn[100:]) > 4
