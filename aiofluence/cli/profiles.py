"""Accounts by name: the configuration file with profiles, and the choice of one for a command.

The file holds origins and the places of keys, never a key. docs/cli.md documents the format.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from .arguments import UsageError

_PROFILE: Final[ContextVar[str | None]] = ContextVar("profile", default=None)
_SOURCES: Final = ("key_file", "key_variable", "key_command")
_KEYS: Final = ("base_url", *_SOURCES)
_VARIABLES: Final = ("FLUENCE_API_KEY", "FLUENCE_API_KEY_FILE", "FLUENCE_ACCESS_TOKEN")
_COMMAND_TIMEOUT: Final = 60.0


@contextmanager
def chosen(name: str | None) -> Iterator[None]:
    """Use this profile for all sessions within the block."""
    token = _PROFILE.set(name)
    try:
        yield
    finally:
        _PROFILE.reset(token)


def path() -> Path:
    """Return the path of the configuration file: `FLUENCE_CONFIG`, or the usual place of such files."""
    if given := os.environ.get("FLUENCE_CONFIG"):
        return Path(given).expanduser()
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "aiofluence" / "config.toml"


class Profiles:
    """The content of the configuration file. Without a file, there are no profiles.

    Attributes:
        default: name of the profile that is used without `--profile` and without a key in the environment.
        tables: the profiles by name.
    """

    def __init__(self, default: str | None, tables: Mapping[str, Mapping[str, str]]) -> None:
        self.default = default
        self.tables = tables

    @classmethod
    def read(cls) -> Profiles:
        """Read the configuration file.

        Raises:
            UsageError: the file is invalid.
        """
        file = path()
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls(None, {})
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file}: {getattr(error, 'strerror', None) or 'not a text file'}") from None
        import tomllib  # here, because most users have no such file

        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{file}: this is not TOML: {error}") from None
        tables, default = document.get("profile", {}), document.get("default")
        if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
            raise UsageError(f"{file}: write each profile as a table, [profile.NAME]")
        for name, table in tables.items():
            for problem in _problems(table):
                raise UsageError(f"{file}: profile {name}: {problem}")
        if default is not None and default not in tables:
            raise UsageError(f"{file}: default: there is no profile {default!r}")
        return cls(default, tables)

    def current(self) -> str | None:
        """Return the name of the profile in use; None if the environment has the key.

        Raises:
            UsageError: there is no profile of the chosen name.
        """
        name = _PROFILE.get()
        if name is None:
            return None if any(os.environ.get(each, "").strip() for each in _VARIABLES) else self.default
        if name not in self.tables:
            known = ", ".join(self.tables) or "none"
            raise UsageError(f"--profile: there is no profile {name!r} in {path()}; there is {known}")
        return name


def _problems(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        if key in ("key", "api_key", "token"):
            yield f"{key}: this file holds no keys; write key_file, key_variable or key_command"
        elif key not in _KEYS:
            yield f"{key}: unknown; there are {', '.join(_KEYS)}"
        elif not isinstance(value, str):
            yield f"{key}: must be a text"
    if sum(source in table for source in _SOURCES) != 1:
        yield f"needs exactly one of {', '.join(_SOURCES)}"


def source_of(table: Mapping[str, str]) -> str:
    """Return the place of a profile's key, as in the file."""
    (source,) = (each for each in _SOURCES if each in table)
    return f"{source} {table[source]}"


def access() -> tuple[str | None, str | None]:
    """Return the key and the origin for a session: those of the profile, or None for the environment's.

    Raises:
        UsageError: there is no key, or the profile is invalid.
    """
    profiles = Profiles.read()
    name = profiles.current()
    if name is None:
        if not any(os.environ.get(each, "").strip() for each in _VARIABLES):
            raise UsageError(
                "there is no API key: set FLUENCE_API_KEY, FLUENCE_API_KEY_FILE or FLUENCE_ACCESS_TOKEN, or "
                f"write a profile into {path()}. To try the commands without a key: aiofluence simulator"
            )
        return None, None
    from ..config import DEFAULT_ORIGIN

    table = profiles.tables[name]
    # Not FLUENCE_BASE_URL: the key of a profile goes to the profile's origin only.
    return _key(name, table), table.get("base_url", DEFAULT_ORIGIN)


def _key(name: str, table: Mapping[str, str]) -> str:
    """Read the key of a profile. No error quotes what was read."""
    key, problem = "", "is empty"
    if variable := table.get("key_variable"):
        key = os.environ.get(variable, "")
    elif file := table.get("key_file"):
        try:
            key = Path(file).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problem = getattr(error, "strerror", None) or "is not a text file"
    else:
        try:
            done = subprocess.run(
                shlex.split(table["key_command"]),
                stdout=subprocess.PIPE,
                timeout=_COMMAND_TIMEOUT,
                check=True,
                text=True,
            )
            key = done.stdout
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            problem = f"failed: {type(error).__name__}"
    key = key.strip()
    if not key:
        raise UsageError(f"profile {name}: {source_of(table)}: {problem}")
    return key
