"""Programs of containers: a table of images and commands that keep a container up or exit.

Tests can script further programs. This module runs nothing: `local_processes` runs real processes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import attrs


def _texts(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(lines)


@attrs.frozen
class Program:
    """Behaviour of a container's program.

    Attributes:
        seconds: running time until the exit. None means until the program is stopped.
        code: exit code.
        lines: lines printed at the start. A program that exits prints nothing else.
        pullable: the registry has the image.
        output: everything that the program prints, in place of `lines` and generated lines.
    """

    seconds: float | None = attrs.field(default=None)
    code: int = 0
    lines: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    pullable: bool = True
    output: str | None = None

    @seconds.validator
    def _check_seconds(self, attribute: attrs.Attribute[float | None], value: float | None) -> None:
        if value is not None and not value >= 0:
            raise ValueError(f"seconds must be at least 0, not {value}")


STAYS: Final = Program()
AT_ONCE: Final = Program(seconds=0.5)
"""Program that ends immediately, such as a shell without a terminal."""

# Images whose default command is a shell or an interpreter: it reads the end of its input and exits.
_EXIT_AT_ONCE: Final = frozenset(
    """
    almalinux alpine amazonlinux archlinux busybox centos conda cuda debian fedora golang hello-world
    miniconda3 node openjdk opensuse oraclelinux python pytorch rockylinux ruby rust tensorflow ubuntu
    """.split()  # noqa: SIM905
)

# Commands that end immediately. Any other command counts as a program that stays, such as a server.
_ENDS_AT_ONCE: Final = frozenset(
    """
    apk apt apt-get bash cat cd chmod chown conda cp curl date do done echo env exit export fi find git grep
    head hostname id ls mkdir mv nvidia-smi pip pip3 printenv printf pwd python python3 rm sed seq service set
    sh source sshd tail test then touch true uname wget which whoami
    """.split()  # noqa: SIM905
)
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def program(
    image: str, command: str | None, scripted: Mapping[str, Program], *, images_exit: bool
) -> Program:
    """Return the program of an image with a startup command.

    Args:
        image: image reference.
        command: startup command, which replaces the image's own.
        scripted: programs by image, which take precedence over the table.
        images_exit: use the table. False makes every program stay.
    """
    name = _short(image)
    for key, given in scripted.items():
        if _short(key) == name:
            return given
    if not images_exit:
        return STAYS
    if name.rpartition("/")[2].partition(":")[0] == "no-such-image":
        return Program(pullable=False)
    return _of_image(name) if command is None else _of_command(command)


def _short(image: str) -> str:
    """Return an image reference without the default registry and library, as `docker pull` accepts it."""
    return image.removeprefix("docker.io/").removeprefix("library/")


def _of_image(image: str) -> Program:
    repository, _, tag = image.rpartition("/")[2].partition("@")[0].partition(":")
    return AT_ONCE if repository in _EXIT_AT_ONCE and "jupyter" not in tag else STAYS


def _of_command(command: str) -> Program:
    """Return the program of a command line. Its parts run one after the other until one of them stays."""
    total, code = 0.0, 0
    parts = list(_parts(command))
    output = _output(parts)
    for words in parts:
        part = _of_words(words)
        if part.seconds is None:
            return STAYS
        total += part.seconds
        code = part.code
        if words[0] == "exit":
            break
    return Program(seconds=max(total, 0.5), code=code, output=output)


_PRINTS: Final = frozenset({"echo", "printf", "seq"})


def _output(parts: list[list[str]]) -> str | None:
    """Return the output of a command that only prints and sleeps; None for any other command."""
    if not parts or not {words[0] for words in parts} <= _PRINTS | {"sleep", "exit", "true", "false"}:
        return None
    if not any(words[0] in _PRINTS for words in parts):
        return None
    text = ""
    for name, *arguments in parts:
        if any(word[0] in "<>" for word in arguments if word):
            return None
        if name == "echo":
            text += " ".join(arguments) + "\n"
        elif name == "seq" and all(word.isdecimal() for word in arguments) and arguments:
            first = int(arguments[0]) if len(arguments) > 1 else 1
            text += "".join(f"{number}\n" for number in range(first, int(arguments[-1]) + 1))
        elif name == "printf" and arguments:
            text += _formatted(*arguments)
        elif name == "exit":
            break
    return text


def _formatted(form: str, *values: str) -> str:
    """Return the text that `printf` prints, for `%d`, `%s`, `\\n` and octal bytes. Bad UTF-8 is marked."""
    left = iter(values)

    def fill(found: re.Match[str]) -> str:
        value = next(left, "0" if found[2] == "d" else "")
        return f"%{found[1]}{found[2]}" % (int(value) if found[2] == "d" else value)

    filled = re.sub(r"%([0-9]*)([ds])", fill, form)
    raw = re.sub(r"\\([0-7]{3})", lambda found: chr(0xDC00 + int(found[1], 8)), filled.replace("\\n", "\n"))
    return raw.encode("utf-8", "surrogateescape").decode(errors="replace")


def _parts(command: str) -> Iterator[list[str]]:
    reader = shlex.shlex(command.replace("\n", ";"), posix=True, punctuation_chars=";&|")
    reader.whitespace_split = True
    reader.commenters = ""
    words: list[str] = []
    try:
        for word in reader:
            if set(word) <= set(";&|"):
                if words and word != "&":  # a background part does not block the next part
                    yield words
                words = []
            elif words or not re.fullmatch(r"[A-Za-z_]\w*=.*|exec|nohup|time", word):
                words.append(word)
    except ValueError:  # unterminated quotes: a shell refuses the command
        yield ["exit", "2"]
        return
    if words:
        yield words


def _of_words(words: list[str]) -> Program:
    name, *arguments = words
    name = name.rpartition("/")[2]
    if name == "sleep":
        return _sleep(arguments)
    if name in ("sh", "bash") and "-c" in arguments[:-1]:
        return _of_command(arguments[arguments.index("-c") + 1])
    if name == "exit":
        return Program(0.0, int(arguments[0]) if arguments and arguments[0].isdecimal() else 0)
    if name == "false":
        return Program(0.0, 1)
    if name not in _ENDS_AT_ONCE:
        return STAYS
    follows = name == "tail" and any(re.match(r"-[a-zA-Z]*[fF]|--follow", word) for word in arguments)
    in_front = name == "sshd" and any(re.match(r"-[a-zA-Z]*D", word) for word in arguments)
    if follows or in_front:
        return STAYS
    if name in ("bash", "sh", "python", "python3") and arguments and arguments[0] not in ("-c", "--version"):
        return STAYS  # a script, or a module
    return Program(0.0)


def _sleep(arguments: list[str]) -> Program:
    seconds = 0.0
    for word in arguments:
        found = re.fullmatch(r"(\d+(?:\.\d*)?)([smhd]?)", word)
        if found is None:
            return STAYS if word.startswith("inf") else Program(0.0, 1)
        seconds += float(found[1]) * _UNITS[found[2]]
    return Program(seconds)
