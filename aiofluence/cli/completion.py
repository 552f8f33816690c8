"""Completion for shells: scripts that call `aiofluence --complete WORDS`, and its answers.

Commands and options come from signatures, without a request. Names come from the service.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from .arguments import Parameter, UsageError, parameters_of, summary_of
from .profiles import Profiles, access, chosen
from .verbs import ROOT, VERBS, function_of

if TYPE_CHECKING:  # imported on demand, since completion of commands and options must be quick
    import aiofluence

_Candidates: TypeAlias = Iterable[tuple[str, str]]
_TIMEOUT: Final = 2.0
FILES: Final = ":files"
"""Candidate in place of the files that a shell completes itself."""

SCRIPTS: Final[Mapping[str, str]] = {
    "bash": """\
_aiofluence() {
    local IFS=$'\\n' line
    COMPREPLY=()
    for line in $(aiofluence --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null); do
        if [[ $line == :files ]]; then compopt -o default; else COMPREPLY+=("${line%%$'\\t'*}"); fi
    done
}
complete -o filenames -F _aiofluence aiofluence
""",
    "zsh": """\
_aiofluence() {
    local -a names texts
    local line
    for line in "${(@f)$(aiofluence --complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -n $line ]] || continue
        if [[ $line == :files ]]; then _files; return; fi
        names+=("${line%%$'\\t'*}")
        texts+=("${line/$'\\t'/  -- }")
    done
    compadd -l -d texts -a names
}
compdef _aiofluence aiofluence
""",
    "fish": """\
function __aiofluence
    for line in (aiofluence --complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)
        if test "$line" = :files
            __fish_complete_path (commandline -ct)
        else
            printf '%s\\n' $line
        end
    end
end
complete -c aiofluence -f -a '(__aiofluence)'
""",
}


def complete(words: Sequence[str]) -> None:
    """Print the candidates for the last word, each on a line, with a text behind a tab."""
    *before, current = words or [""]
    option = ""
    if "--" not in before and current.startswith("--") and "=" in current:
        option, _, current = current.partition("=")
        before, option = [*before, option], f"{option}="
    elif "=" in (current, *before[-1:]):  # bash passes `--kind=vm` as three words
        before = before if current == "=" else before[:-1]
        current = current.removeprefix("=")
    for name, text in _candidates(before, current):
        if name.startswith(current) or (name == FILES and not option):
            print(f"{option}{name}\t{text}" if text else f"{option}{name}")


def _candidates(before: Sequence[str], current: str) -> _Candidates:
    before, profile = list(before), os.environ.get("FLUENCE_PROFILE") or None
    if before and before[-1] == "--profile":
        return [(name, "") for name in _profiles()]
    if "--profile" in before:
        at = before.index("--profile")
        profile = before[at + 1]
        del before[at : at + 2]
    if not before:
        options = [
            (spelling.split()[-1 if spelling.startswith("-h") else 0], text) for spelling, text in ROOT
        ]
        return options if current.startswith("-") else [(v, summary_of(function_of(v))) for v in VERBS]
    verb, *rest = before
    if verb not in VERBS or verb == "simulator" or "--" in rest:
        return []
    parameters = parameters_of(function_of(verb))
    takes_value = {option: each for each in parameters if not each.is_flag for option in each.options}
    if rest and rest[-1] in takes_value:
        return _values(takes_value[rest[-1]], profile, ())
    if current.startswith("-"):
        return [(option, each.help) for each in parameters for option in each.options]
    given = [
        word
        for index, word in enumerate(rest)
        if not word.startswith("-") and (index == 0 or rest[index - 1] not in takes_value)
    ]
    positional = [each for each in parameters if not each.is_option]
    for index, each in enumerate(positional):
        if each.is_list or index == len(given):
            return _values(each, profile, given)
    return []


def _profiles() -> Iterable[str]:
    try:
        return list(Profiles.read().tables)
    except UsageError:
        return []


def _values(parameter: Parameter, profile: str | None, given: Sequence[str]) -> _Candidates:
    """Return the possible values of a parameter, without those that are `given` already."""
    if parameter.choices:
        return [(choice, "") for choice in parameter.choices]
    if parameter.is_file:
        return [(FILES, "")]
    ask = _ASKED.get(parameter.declared.complete)
    if ask is None:
        return []
    import aiofluence

    async def answer() -> Any:
        key, origin = access()
        async with asyncio.timeout(_TIMEOUT):
            async with aiofluence.Session(key, base_url=origin, user_agent_suffix="cli") as fluence:
                return await ask(fluence)

    try:
        with chosen(profile):
            return [(name, text) for name, text in asyncio.run(answer()) if name not in given]
    except (aiofluence.FluenceError, UsageError, OSError):
        return []


async def _instances(fluence: aiofluence.Session) -> _Candidates:
    from .lookup import list_all

    rows = [row for row in await list_all(fluence) if not row.status.final]
    return [(row.name, f"{row.kind} {row.status} {row.id}") for row in rows]


async def _images(fluence: aiofluence.Session) -> _Candidates:
    return [(image.slug, image.image) for image in await fluence.images.list()]


async def _gpus(fluence: aiofluence.Session) -> _Candidates:
    offers = await fluence.plans.find()  # cheapest first
    cheapest = {offer.gpu_model.model: offer for offer in reversed(offers)}
    return [(gpu, f"from {offer.hourly:f} USDC an hour") for gpu, offer in sorted(cheapest.items())]


async def _plans(fluence: aiofluence.Session) -> _Candidates:
    return [(offer.name, f"{offer.hourly:f} USDC an hour") for offer in await fluence.plans.find()]


async def _places(fluence: aiofluence.Session) -> _Candidates:
    return [(place, "") for place in sorted({p for o in await fluence.plans.find() for p in o.locations})]


async def _providers(fluence: aiofluence.Session) -> _Candidates:
    return [(name, "") for name in sorted({o.provider for o in await fluence.plans.find() if o.provider})]


_ASKED: Final[Mapping[str, Callable[[aiofluence.Session], Any]]] = {
    "instance": _instances,
    "image": _images,
    "gpu": _gpus,
    "plan": _plans,
    "place": _places,
    "provider": _providers,
}
