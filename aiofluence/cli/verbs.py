"""The verbs of the command line, and the modules of their functions.

A run imports only the module of its verb.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

PROGRAM: Final = "aiofluence"
VERBS: Final[Mapping[str, str]] = {
    "gpus": "plans",
    "plans": "plans",
    "images": "plans",
    "account": "plans",
    "deploy": "deploy",
    "launch": "deploy",
    "ls": "show",
    "show": "show",
    "wait": "show",
    "logs": "logs",
    "events": "logs",
    "update": "change",
    "rename": "change",
    "terminate": "change",
    "sweep": "change",
    "ssh": "show",
    "inventory": "show",
    "profiles": "shell",
    "completion": "shell",
    "conformance": "conformance",
    "demo": "demo",
    "simulator": "demo",
}
"""The module of each verb. The function has the verb's name."""
OTHER_NAMES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("status", "ps", "list"), "ls"),
    **dict.fromkeys(("down", "stop", "destroy", "delete", "rm"), "terminate"),
    **dict.fromkeys(("create", "run", "up"), "deploy"),
    **dict.fromkeys(("search", "offers"), "plans"),
    **dict.fromkeys(("exec", "shell"), "ssh"),
    "tail": "logs",
}
"""Names that other tools have for a verb. An error suggests the verb."""
ROOT: Final = (
    ("--profile NAME", "The account to use: a profile of the configuration file."),
    ("--version", "Print the version."),
    ("-h, --help", "Show this help."),
)


def function_of(verb: str) -> Callable[..., Any]:
    """Return the function of a verb."""
    function: Callable[..., Any] = getattr(import_module(f".commands.{VERBS[verb]}", __package__), verb)
    return function
