"""The public names of the first release, which need no `versionadded`.

`python -m tools.public_names` writes the list until the first release is out. Later names carry
`.. versionadded::` instead (CONTRIBUTING.md).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

FIRST_RELEASE = Path(__file__).parent.parent / "tests" / "fixtures" / "first_release.txt"
MODULES = ("aiofluence", "aiofluence.inventory", "aiofluence.simulator", "aiofluence.sync")


def documented() -> Iterator[tuple[str, str]]:
    """Yield each public class, function, method and property of our own, with its docstring."""
    for module in map(import_module, MODULES):
        for name in module.__all__:
            value = getattr(module, name)
            if not inspect.isclass(value) and not inspect.isfunction(value):
                continue
            yield f"{module.__name__}.{name}", value.__doc__ or ""
            for owner in value.__mro__ if inspect.isclass(value) else ():
                if owner.__module__.partition(".")[0] != "aiofluence":
                    continue
                for member, found in vars(owner).items():
                    function = found.__func__ if isinstance(found, classmethod | staticmethod) else found
                    if not member.startswith("_") and isinstance(function, property | type(documented)):
                        yield f"{module.__name__}.{name}.{member}", function.__doc__ or ""


def undated(names: Iterator[tuple[str, str]], first: set[str]) -> list[str]:
    """Return the names that are neither in the first release nor say in which one they came."""
    late = {name: text for name, text in names if name not in first}
    dated = {name for name, text in late.items() if ".. versionadded:: " in text}
    return sorted(name for name in late if name not in dated and name.rpartition(".")[0] not in dated)


if __name__ == "__main__":
    FIRST_RELEASE.write_text("".join(f"{name}\n" for name in sorted(dict(documented()))), encoding="utf-8")
