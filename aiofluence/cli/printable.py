"""Text from elsewhere, made safe to show: nothing in it can move the cursor, recolour or reorder the screen.

One pure function. It decides nothing about layout, and it is no encoding: it cannot be undone.
"""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    r"""`text` on one line, with whatever a terminal would obey instead of show written as an escape.

    That is control characters (ESC, CR, LF and the 8-bit ones too), bidi marks, invisible characters and
    line separators: ESC becomes the four characters `\x1b`. Tabs and unusual blanks become blanks.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _shown(char) for char in text)


def _shown(char: str) -> str:
    if char == "\t" or unicodedata.category(char) == "Zs":
        return " "
    return char.encode("unicode_escape").decode("ascii")
