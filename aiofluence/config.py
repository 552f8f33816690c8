"""Sources of a session's key and origin: arguments first, then the environment.

Reads and checks, but keeps nothing. No `.env` file is ever read.
"""

from __future__ import annotations

import ipaddress
import logging
import os
from typing import Final
from urllib.parse import urlsplit

from .errors import ConfigError
from .http.messages import BEARER, Headers

VERSION: Final = "0.1.0"
"""The version of this package, from which the build takes it."""
_ALWAYS: Final = {"Accept": "application/json", "Content-Type": "application/json"}
_HANDLER: Final = "aiofluence-environment"
_LONGEST_KEY: Final = 4096
_NO_KEY: Final = (
    "no API key: set FLUENCE_API_KEY or FLUENCE_API_KEY_FILE, or give api_key= "
    "(an access token goes into FLUENCE_ACCESS_TOKEN)\n"
    "to try things without one: python -m aiofluence.simulator"
)
DEFAULT_ORIGIN: Final = "https://api.fluence.dev"


def find_api_key(given: str | None) -> str | None:
    """Find the key: `given`, else `FLUENCE_API_KEY`, else the content of the file `FLUENCE_API_KEY_FILE`.

    An empty or blank variable counts as not set. Return None when there is no key.

    Raises:
        ConfigError: the key cannot be a header.
    """
    try:
        if given is not None:
            return _checked("api_key", given)
        if key := _variable("FLUENCE_API_KEY"):
            return _checked("FLUENCE_API_KEY", key)
    finally:
        del given  # a traceback with locals must not show the key
        key = ""
    if path := _variable("FLUENCE_API_KEY_FILE"):
        return _checked("FLUENCE_API_KEY_FILE", _read(path))
    return None


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()


def _checked(source: str, key: object) -> str:
    """Return `key`, which came from `source`, without surrounding blanks.

    Raises:
        ConfigError: the key cannot be a header.
    """
    if not isinstance(key, str):
        problem = f"{source} is a text, not {type(key).__name__}"
    elif not key.strip():
        problem = "FLUENCE_API_KEY_FILE names an empty file" if source == "FLUENCE_API_KEY_FILE" else _NO_KEY
    elif len(key) > _LONGEST_KEY:
        problem = f"{source} is longer than {_LONGEST_KEY} characters, which no key is"
    elif not all("!" <= letter <= "~" for letter in key.strip()):
        problem = f"{source} holds blanks, line breaks or letters that no HTTP header can carry"
    else:
        return key.strip()
    del key  # a traceback with locals must not show the key
    raise ConfigError(problem)


def request_headers(api_key: str | None) -> Headers:
    """Return the headers of every request of a session, including the key; see `find_api_key`.

    Without a key, the access token in `FLUENCE_ACCESS_TOKEN` takes its place (contract 1).

    Raises:
        ConfigError: there is neither key nor token, or it cannot be a header.
    """
    key = token = ""
    try:
        if key := find_api_key(api_key) or "":
            return Headers({"X-API-KEY": key, **_ALWAYS})
        if token := _variable("FLUENCE_ACCESS_TOKEN"):
            token = _checked("FLUENCE_ACCESS_TOKEN", token)
            return Headers({"Authorization": f"{BEARER}{token}", **_ALWAYS})
    finally:
        del api_key, key, token  # a traceback with locals must not show them
    raise ConfigError(_NO_KEY)


def user_agent(suffix: str) -> str:
    """Return the user agent: this library, followed by the program's suffix.

    Raises:
        ConfigError: a header cannot contain the suffix.
    """
    agent = f"aiofluence/{VERSION} {suffix}".strip()
    if not agent.isascii() or not agent.isprintable():
        raise ConfigError("user_agent_suffix holds characters that no HTTP header can carry")
    return agent


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8-sig") as file:  # Windows editors add a byte order mark
            return file.read(_LONGEST_KEY + 1)  # one more, so that `_checked` notices a longer file
    except OSError as error:
        reason = error.strerror or "it cannot be opened"
    except ValueError:  # not UTF-8, or a path with a null byte
        reason = "it is not a text file"
    raise ConfigError(f"FLUENCE_API_KEY_FILE cannot be read: {reason}")


def find_origin(given: str | None, *, allow_insecure: bool) -> str:
    """Return scheme, host and port of `given`, else of `FLUENCE_BASE_URL`, else of the service.

    The address may end in `/gpu`. Only https is accepted, unless the host is this machine.

    Raises:
        ConfigError: the address is invalid.
    """
    name = "FLUENCE_BASE_URL" if given is None else "base_url"
    url = given if given is not None else os.environ.get("FLUENCE_BASE_URL", "").strip() or DEFAULT_ORIGIN
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ConfigError(f"{name} must look like https://host or https://host:port, with or without /gpu")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ConfigError(f"{name} must not hold a user, a password, a query or a fragment")
    if parts.path.rstrip("/") not in ("", "/gpu"):
        raise ConfigError(f"{name} may end in /gpu, not in {parts.path!r}")
    if parts.scheme == "http" and not allow_insecure and not is_loopback(parts.hostname):
        raise ConfigError(
            f"{name} is plain http, which would expose the key on the network; use https"
            + ("" if given is None else ", or in Python allow_insecure=True if you must")
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")


def is_loopback(host: str | None) -> bool:
    """Return True if the host is this machine, by name or by address."""
    host = host or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def turn_on_log() -> bool:
    """Let the library's logger write to stderr when `FLUENCE_LOG` names a level, such as `debug`.

    This shows each call and its outcome without a change of the program. The output is redacted.

    Returns:
        True if the level is info or lower, so that the session also looks for drift.

    Raises:
        ConfigError: `FLUENCE_LOG` names no level.
    """
    name = os.environ.get("FLUENCE_LOG", "").strip().upper()
    if not name:
        return False
    level = logging.getLevelNamesMapping().get(name)
    if level is None:
        raise ConfigError(f"FLUENCE_LOG is a level such as debug or info, not {name.lower()!r}")
    log = logging.getLogger("aiofluence")
    log.setLevel(level)
    if not any(handler.get_name() == _HANDLER for handler in log.handlers):
        handler = logging.StreamHandler()
        handler.set_name(_HANDLER)
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        log.addHandler(handler)
    return level <= logging.INFO
