"""The words before a verb: help, version, completion, a profile. Then the verb's function runs.

Help, and the completion of commands and options, load nothing that sends requests.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

from .arguments import USAGE, Exit, UsageError, columns, complain, paragraphs, parse, summary_of, unknown_verb
from .printable import printable
from .profiles import chosen
from .verbs import OTHER_NAMES, PROGRAM, ROOT, VERBS, function_of

_ABOUT: Final = (
    "The Fluence GPU Cloud from the command line. The key is in FLUENCE_API_KEY, in the file that "
    "FLUENCE_API_KEY_FILE names, or in a profile."
)
_CODES: Final = (
    "Exit codes: 0 reached, 1 failed, 2 wrong usage, 124 timed out, 130 interrupted (143 by SIGTERM, 129 by "
    "SIGHUP)."
)


def run(words: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    try:
        profile, words = _take_profile(words)
        if not words:
            print(_help(), file=sys.stderr)
            return USAGE
        verb, *rest = words
        if verb == "help" and rest[:1] and rest[0] in VERBS:
            return _run(rest[0], ["--help"], profile)
        if verb in ("-h", "--help", "help"):
            print(_help())
        elif verb == "--version":
            from importlib.metadata import version

            print(f"{PROGRAM} {version('aiofluence')}")
        elif verb == "--complete":
            from .completion import complete

            complete(rest)
        elif verb not in VERBS:
            raise UsageError(unknown_verb(verb, VERBS, OTHER_NAMES.get(verb)))
        else:
            return _run(verb, rest, profile)
    except UsageError as error:
        return complain(PROGRAM, UsageError(printable(str(error))))
    return 0


def _run(verb: str, words: Sequence[str], profile: str | None) -> int:
    prog, function = f"{PROGRAM} {verb}", function_of(verb)
    try:
        # The simulator parses its own command line.
        given = {"words": list(words)} if verb == "simulator" else parse(function, words, prog)
        with chosen(profile):
            function(**given)
    except Exit as leaving:
        return leaving.code
    except UsageError as error:
        return complain(prog, UsageError(printable(str(error))))
    return 0


def _take_profile(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the value of `--profile`, which may be anywhere before `--`, and the other words."""
    rest, profile = list(words), None
    if rest[:1] == ["--complete"]:
        return None, rest
    end = rest.index("--") if "--" in rest else len(rest)
    for index, word in enumerate(rest[:end]):
        if word == "--profile" and index + 1 < end:
            profile = rest[index + 1]
            del rest[index : index + 2]
        elif word.startswith("--profile="):
            profile = rest.pop(index).partition("=")[2]
        elif word == "--profile":
            raise UsageError("--profile: expected the name of a profile")
        else:
            continue
        break
    return profile or os.environ.get("FLUENCE_PROFILE") or None, rest


def _help() -> str:
    verbs = [(verb, summary_of(function_of(verb))) for verb in VERBS]
    return "\n".join(
        [
            f"Usage: {PROGRAM} [--profile NAME] COMMAND ...",
            "",
            *paragraphs(_ABOUT),
            "",
            "Options:",
            *columns(ROOT),
            "",
            "Commands:",
            *columns(verbs),
            "",
            *paragraphs(f"{PROGRAM} COMMAND --help shows the options of a command.\n\n{_CODES}"),
        ]
    )
