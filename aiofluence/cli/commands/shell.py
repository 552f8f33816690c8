"""`profiles` and `completion`: the accounts of the configuration file, and scripts for shells.

These commands send no requests.
"""

from __future__ import annotations

from typing import Annotated, Literal

from ..arguments import Argument
from ..console import Column, note, print_json, print_table
from ..options import JsonOption
from ..profiles import Profiles, path, source_of


def profiles(as_json: JsonOption = False) -> None:
    """List the accounts of the configuration file; * marks the current account.

    The file is ~/.config/aiofluence/config.toml, unless FLUENCE_CONFIG names another file. The file holds the
    places of keys, not the keys.

    Examples:
        aiofluence profiles
        aiofluence --profile work ls
    """
    known = Profiles.read()
    current = known.current()
    if as_json:
        print_json(
            [
                {
                    "name": name,
                    "base_url": table.get("base_url"),
                    "key": source_of(table),
                    "current": name == current,
                }
                for name, table in known.tables.items()
            ]
        )
    elif known.tables:
        print_table(
            (Column(""), Column("NAME"), Column("KEY FROM", fold=True), Column("ORIGIN", drop=1)),
            [
                ("*" if name == current else "", name, source_of(table), table.get("base_url", ""))
                for name, table in known.tables.items()
            ],
        )
    else:
        note(f"There are no profiles: {path()} does not exist, or has none.")


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Argument(metavar="SHELL", help="Name of your shell.")],
) -> None:
    """Print a script that completes commands, options, names, images, GPUs and plans.

    Completion of names asks the service, for two seconds at most.

    Examples:
        source <(aiofluence completion bash)    # in ~/.bashrc
        source <(aiofluence completion zsh)     # in ~/.zshrc, after compinit
        aiofluence completion fish | source     # in ~/.config/fish/config.fish
    """
    from ..completion import SCRIPTS

    print(SCRIPTS[shell], end="")
