"""`python -m aiofluence.simulator.claims`: the page docs/fidelity.md on standard output.

It takes no options and reads nothing.
"""

from __future__ import annotations

import sys

from .page import page

if __name__ == "__main__":
    sys.stdout.write(page())
