"""Escaping of foreign text, so that nothing in it can move the cursor, recolour or reorder the screen.

Contains one pure function. It does no layout, and its result cannot be decoded.
"""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    r"""Return `text` on one line, with escapes for all characters that a terminal would obey, not show.

    Those are control characters (ESC, CR, LF and the 8-bit ones too), bidi marks, invisible characters and
    line separators: ESC becomes the four characters `\x1b`. Tabs and unusual blanks become blanks.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _shown(char) for char in text)


def _shown(char: str) -> str:
    if char == "\t" or unicodedata.category(char) == "Zs":
        return " "
    return char.encode("unicode_escape").decode("ascii")
