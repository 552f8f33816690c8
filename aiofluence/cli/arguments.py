"""Command lines from signatures: `Argument` and `Option` describe the parameters of a verb's function.

argparse does the parsing. This module adds what it lacks: suggestions for typos, help texts with examples,
and the parameters as data, for completion and the documentation. It loads nothing else of the package.
"""

from __future__ import annotations

import argparse
import inspect
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

USAGE: Final = 2


class Exit(Exception):
    """The end of a command, with its exit code."""

    def __init__(self, code: int = 0) -> None:
        super().__init__(code)
        self.code = code


class UsageError(Exception):
    """An invalid command line."""


class Argument:
    """A positional parameter.

    Attributes:
        metavar: its name in help texts; the parameter's own name if empty.
        parser: converts the text. Raises ValueError with a message for the user.
        complete: kind of the values that a shell completes: `instance`, `image`, `gpu`, `plan`, `place`,
            `provider` or `profile`.
    """

    def __init__(
        self,
        *names: str,
        metavar: str = "",
        help: str = "",
        parser: Callable[[str], Any] | None = None,
        complete: str = "",
    ) -> None:
        self.names = names
        self.metavar = metavar
        self.help = help
        self.parser = parser
        self.complete = complete


class Option(Argument):
    """A named parameter. Without names, the parameter's own is used: `min_ready` is `--min-ready`.

    A bool whose default is True is `--name/--no-name`.
    """


class Parameter:
    """A parameter of a verb: its declaration, its type and its default."""

    def __init__(self, name: str, annotation: Any, given: inspect.Parameter) -> None:
        plain, declared = get_args(annotation)
        default = None if given.default is given.empty else given.default
        self.default: Any = default
        self.required: bool = given.default is given.empty
        self.name = name
        self.declared: Argument = declared
        self.is_option: bool = isinstance(declared, Option)
        plain, is_list = _without_list(_without_none(plain))
        self.is_list: bool = is_list
        self.is_flag: bool = plain is bool
        self.is_file: bool = plain is Path or "FILE" in declared.metavar
        self.choices: list[str] = [str(choice) for choice in _choices(plain)]
        self.parse: Callable[[str], Any] = declared.parser or _checked(plain, self.choices)
        self.help: str = declared.help
        long = f"--{name.replace('_', '-')}"
        self.options: list[str] = [*(declared.names or [long])] if self.is_option else []
        if self.is_flag and default is True:
            self.options.append(f"--no-{self.options[0].removeprefix('--')}")

    @property
    def metavar(self) -> str:
        """Placeholder of the value."""
        return self.declared.metavar or self.name.upper()

    @property
    def spelling(self) -> str:
        """The parameter in the documentation: `--gpu MODEL`, `NAME...`."""
        if not self.is_option:
            return self.metavar + ("..." if self.is_list else "")
        return ", ".join(self.options) + ("" if self.is_flag else f" {self.metavar}")


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (each for each in get_args(annotation) if each is not NoneType)
    return annotation


def _without_list(annotation: Any) -> tuple[Any, bool]:
    return (get_args(annotation)[0], True) if get_origin(annotation) is list else (annotation, False)


def _choices(plain: Any) -> Iterable[Any]:
    if get_origin(plain) is Literal:
        return get_args(plain)
    return plain if isinstance(plain, type) and issubclass(plain, Enum) else ()


def _checked(plain: Any, choices: Sequence[str]) -> Callable[[str], Any]:
    """Return the conversion of a text to a value of the type `plain`."""

    def parse(text: str) -> Any:
        if choices and text not in choices:
            raise ValueError(f"{text!r} is none of {', '.join(choices)}{_meant(text, choices)}")
        if plain is int and not text.lstrip("-").isdecimal():
            raise ValueError(f"{text!r} is not a whole number")
        return text if get_origin(plain) is Literal else plain(text)

    return parse


def at_least(least: int) -> Callable[[str], int]:
    """Return the conversion of a text to a whole number of at least `least`."""

    def parse(text: str) -> int:
        number = int(text) if text.lstrip("-").isdecimal() else None
        if number is None or number < least:
            raise ValueError(f"{text!r} is not a whole number of at least {least}")
        return number

    return parse


def existing_file(text: str) -> Path:
    """Convert a text to the path of an existing file.

    Raises:
        ValueError: there is no such file.
    """
    path = Path(text)
    if not path.is_file():
        raise ValueError(f"there is no file {text!r}")
    return path


def parameters_of(function: Callable[..., Any]) -> list[Parameter]:
    """Return the parameters of a verb, in the order of its signature."""
    hints = get_type_hints(function, include_extras=True)
    given = inspect.signature(function).parameters
    return [Parameter(name, hints[name], each) for name, each in given.items()]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


def parse(function: Callable[..., Any], words: Sequence[str], prog: str) -> dict[str, Any]:
    """Return the arguments for `function`. Words behind `--` belong to its last positional parameter.

    Raises:
        Exit: help was asked for, and is printed.
        UsageError: the command line is invalid.
    """
    parameters = parameters_of(function)
    before, behind = list(words), []
    if "--" in before:
        at = before.index("--")
        before, behind = before[:at], before[at + 1 :]
    if "-h" in before or "--help" in before:
        print(help_of(function, parameters, prog))
        raise Exit
    # With a usage of its own, argparse does not format one, which no error here shows.
    parser = _Parser(prog, usage="", add_help=False, allow_abbrev=False)
    for each in parameters:
        _add(parser, each)
    variadic = next((p for p in parameters if not p.is_option and p.is_list), None)
    found, unknown = parser.parse_known_intermixed_args(before if variadic else [*before, *behind])
    if unknown:
        raise UsageError(_unknown(unknown[0], parameters))
    given = vars(found)
    if variadic is not None and behind:
        given[variadic.name] = [*(given[variadic.name] or []), *behind]
    return given


def _add(parser: argparse.ArgumentParser, each: Parameter) -> None:
    def convert(text: str) -> Any:
        try:
            return each.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    how: dict[str, Any] = {"default": each.default}
    if not each.is_option:
        many = "+" if each.required else "*"
        how |= {"metavar": each.metavar, "nargs": many if each.is_list else None if each.required else "?"}
        parser.add_argument(each.name, type=convert, **how)
    elif each.is_flag and each.default is True:
        parser.add_argument(*each.options[:1], dest=each.name, action="store_true", default=True)
        parser.add_argument(*each.options[1:], dest=each.name, action="store_false", default=True)
    elif each.is_flag:
        parser.add_argument(*each.options, dest=each.name, action="store_true")
    else:
        action = "append" if each.is_list else "store"
        parser.add_argument(
            *each.options, dest=each.name, type=convert, action=action, metavar=each.metavar, **how
        )


def _unknown(word: str, parameters: Sequence[Parameter]) -> str:
    if not word.startswith("-"):
        return f"unexpected argument {word!r}"
    word = word.partition("=")[0]
    for each in parameters:
        if not each.is_option and each.metavar.lower() == word.strip("-"):
            return f"there is no option {word}; write the {each.metavar} without an option"
        if not each.is_option and each.metavar == "COMMAND":
            return f"there is no option {word}; options of the COMMAND go behind --"
    known = [option for each in parameters for option in each.options]
    return f"there is no option {word}{_meant(word, known)}"


def _meant(word: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=2)
    return f"; do you mean {' or '.join(near)}?" if near else ""


def unknown_verb(word: str, verbs: Iterable[str], meant: str | None = None) -> str:
    """Return the error text for a verb that does not exist."""
    return f"there is no command {word!r}{f'; do you mean {meant}?' if meant else _meant(word, verbs)}"


def summary_of(function: Callable[..., Any]) -> str:
    """Return the first line of a verb's documentation."""
    return (inspect.getdoc(function) or "").partition("\n")[0]


def help_of(function: Callable[..., Any], parameters: Sequence[Parameter], prog: str) -> str:
    """Return the help text of a verb, for the width of the terminal."""
    text, _, examples = (inspect.getdoc(function) or "").partition("\n\nExamples:\n")
    positional = " ".join(
        each.spelling if each.required else f"[{each.spelling}]" for each in parameters if not each.is_option
    )
    lines = [f"Usage: {prog} [OPTIONS] {positional}".rstrip(), "", *paragraphs(text)]
    if examples:
        lines += ["", "Examples:", *textwrap.indent(textwrap.dedent(examples), "  ").rstrip().splitlines()]
    rows = [
        (each.spelling, f"{each.help} [{', '.join(each.choices)}]" if each.choices else each.help)
        for each in parameters
    ]
    return "\n".join([*lines, "", "Options:", *columns([*rows, ("-h, --help", "Show this help.")])])


def paragraphs(text: str) -> list[str]:
    """Return a text wrapped to the width of the terminal."""
    lines: list[str] = []
    for part in text.split("\n\n"):
        lines += [*textwrap.wrap(" ".join(part.split()), width()), ""]
    return lines[:-1]


def columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Return names and their texts in two columns. A long name has a line of its own."""
    left = min(max(len(name) for name, _ in rows), width() // 3)
    lines = []
    for name, text in rows:
        first, *rest = textwrap.wrap(text, max(width() - left - 4, 20)) or [""]
        if len(name) > left:
            lines.append(f"  {name}")
            name = ""
        lines += [f"  {name:<{left}}  {first}".rstrip(), *(f"  {'':<{left}}  {line}" for line in rest)]
    return lines


def width() -> int:
    """Return the number of columns of the terminal, at most 100; 80 in a pipe."""
    return min(max(shutil.get_terminal_size((80, 24)).columns, 40), 100)


def complain(prog: str, error: UsageError) -> int:
    """Print an invalid command line on stderr, and return the exit code."""
    print(f"{prog}: {error}", file=sys.stderr)
    print(f"Try: {prog} --help", file=sys.stderr)
    return USAGE
