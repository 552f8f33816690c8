"""The public surface: names, docstrings, documented errors, and a test for each method.

All checks use introspection, so a new method is checked without a list.
"""

from __future__ import annotations

import ast
import inspect
import pkgutil
import types
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import aiofluence
import aiofluence.resources

TESTS = Path(__file__).parent


def public_classes() -> list[type]:
    """The classes among the public names, and the resources that a session carries."""
    found = {value for value in vars(aiofluence).values() if inspect.isclass(value)}
    return sorted({c for c in found if c.__name__ in aiofluence.__all__} | set(resource_classes()), key=str)


INTERNAL = {"catalogue", "drift", "endpoints", "kinds", "shapes"}
"""Modules of `resources` for `polling`, `lifecycle` and `tail` alone."""


def resource_classes() -> list[type]:
    package = aiofluence.resources
    modules = [
        package,
        *(import_module(m.name) for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")),
    ]
    return [
        value
        for module in modules
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
        if module.__name__.rpartition(".")[2] not in INTERNAL
    ]


def methods(cls: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public methods of a class as its user meets them, those of our own base classes included."""
    for owner in cls.__mro__:
        if owner.__module__.split(".")[0] != "aiofluence":
            continue
        for name, value in vars(owner).items():
            function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            if not name.startswith("_") and inspect.isfunction(function):
                yield name, function


def is_async(function: Callable[..., Any]) -> bool:
    """Coroutines, async generators, and what `asynccontextmanager` made of one."""
    inner = inspect.unwrap(function)
    return inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner)


def public_functions() -> list[tuple[str, Callable[..., Any]]]:
    """Every public function and method, with the name to complain about it by."""
    found = {
        f"{cls.__module__}.{cls.__qualname__}.{name}": function
        for cls in public_classes()
        # A Protocol is for others to write; an exception's methods are few and inherited.
        if not getattr(cls, "_is_protocol", False)
        for name, function in methods(cls)
    }
    for name in aiofluence.__all__:
        value = getattr(aiofluence, name)
        if inspect.isfunction(value):
            found[f"aiofluence.{name}"] = value
    return sorted(found.items())


def test_all_is_what_is_visible() -> None:
    visible = {
        name
        for name, value in vars(aiofluence).items()
        if not name.startswith(("_", "@"))  # "@" is pytest's: it rewrites the package of a plugin
        # Submodules become attributes by being imported; `from __future__ import annotations` leaves a name.
        and not (inspect.ismodule(value) and value.__name__.startswith("aiofluence."))
        and name != "annotations"
    }
    listed = {name for name in aiofluence.__all__ if not name.startswith("_")}
    assert listed == visible


def test_all_is_sorted_and_says_nothing_twice() -> None:
    def as_ruff_sorts(name: str) -> tuple[int, str]:
        return (0 if name.isupper() else 1 if name[:1].isupper() else 2), name

    assert list(aiofluence.__all__) == sorted(set(aiofluence.__all__), key=as_ruff_sorts)


@pytest.mark.parametrize("name", aiofluence.__all__)
def test_a_public_name_has_its_own_docstring(name: str) -> None:
    value = getattr(aiofluence, name)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return  # a type alias or a constant: documented where it is written
    assert value.__module__.split(".")[0] == "aiofluence"
    # Not inspect.getdoc, and not __doc__ of a class: both may be a base class's.
    text = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    assert text, f"{name} has no docstring"
    # attrs and dataclasses write a signature where there is none.
    assert not text.startswith(f"{name}("), f"{name} has no docstring"


def test_every_public_function_explains_itself() -> None:
    silent = [name for name, function in public_functions() if not function.__doc__]
    assert not silent, "no docstring: " + ", ".join(silent)


def test_every_coroutine_documents_what_it_raises() -> None:
    silent = [
        name
        for name, function in public_functions()
        if is_async(function) and "Raises:" not in (function.__doc__ or "")
    ]
    assert not silent, "no 'Raises:' section: " + ", ".join(silent)


def test_every_public_method_is_called_by_a_test() -> None:
    called = {
        node.func.attr
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    classes = [aiofluence.Session, *resource_classes()]
    missing = {f"{cls.__name__}.{name}" for cls in classes for name, _ in methods(cls) if name not in called}
    assert not missing, "no test calls: " + ", ".join(sorted(missing))


def test_the_checks_find_something_to_check() -> None:
    names = [name for name, _ in public_functions()]
    assert any(name.endswith(".deploy") for name in names)
    assert any(name.endswith(".deploy_and_wait") for name in names)
    assert any(is_async(function) for _, function in public_functions())
    assert not isinstance(aiofluence.Session, types.ModuleType)
