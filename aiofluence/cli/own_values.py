"""Values that an order takes from the user's machine: variables, the log-in to a registry, a public key.

Problems are added to a list. No problem quotes a secret.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..models.specs import RegistryCredentials


def read_environment(
    given: Mapping[str, str], passed_on: Sequence[object], problems: list[str]
) -> dict[str, str]:
    """Return the variables in `given`, and those of this process that `passed_on` names."""
    found = dict(given)
    for name in passed_on:
        if not isinstance(name, str):
            problems.append("pass_environment: must be a list of names")
        elif name not in os.environ:
            problems.append(f"pass_environment: you have no variable {name!r}")
        else:
            found[name] = os.environ[name]
    return found


def read_credentials(given: Mapping[str, Any], problems: list[str]) -> RegistryCredentials:
    """Read the log-in to a registry. Errors never quote its values: a password may be in the wrong place."""
    keys = ("host", "username", "password_variable")
    host, username, variable = (given.get(key) if isinstance(given.get(key), str) else "" for key in keys)
    problems += [f"credentials.{unknown_key(key, keys)}" for key in given if key not in keys]
    if not variable:
        problems.append("credentials.password_variable: names the variable that holds the password")
    elif variable not in os.environ:
        problems.append(f"credentials: you have no variable {variable}, which should hold the password")
    credentials = RegistryCredentials(host or "", username or "", os.environ.get(variable or "", "") or " ")
    problems += credentials.problems()
    return credentials


def read_ssh_key(given: str | None) -> str | None:
    """Return the text of a public key: `given` itself, or the content of the file that it names.

    Raises:
        OSError: the file cannot be read.
    """
    if given is None or " " in given.strip():
        return given
    return Path(given).expanduser().read_text(encoding="utf-8", errors="replace").strip()


def unknown_key(key: str, known: Sequence[str]) -> str:
    """Return the problem of a key that does not exist."""
    near = get_close_matches(key, known, n=1)
    return f"{key}: unknown; " + (f"do you mean {near[0]}?" if near else f"there are {', '.join(known)}")
