"""The output of the few shell commands that `aiofluence conformance` runs, without a shell."""

from __future__ import annotations

import re
import shlex


def output_of(command: str) -> tuple[list[str], float | None]:
    """Return the lines that a command prints, and the seconds after which it exits; None if it stays."""
    text, seconds = "", 0.0
    for part in command.split(";"):
        name, *words = shlex.split(part)
        if name == "echo":
            text += f"{' '.join(words)}\n"
        elif name == "seq":
            text += "".join(f"{number}\n" for number in range(int(words[0]), int(words[1]) + 1))
        elif name == "printf":
            form = words[0].replace("\\n", "\n").replace("\\377", "\ufffd")
            wide = re.search(r"%0(\d+)d", form)
            text += form if wide is None else form.replace(wide[0], words[1].zfill(int(wide[1])))
        elif name == "sleep":
            seconds += float(words[0])
        elif name == "exit":
            break
    return text.split("\n")[: -1 if text.endswith("\n") else None], None if seconds > 10_000 else seconds
