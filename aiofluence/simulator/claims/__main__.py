"""`python -m aiofluence.simulator.claims`: print the page docs/fidelity.md.

The command has no options and reads no input.
"""

from __future__ import annotations

import sys

from .page import page

if __name__ == "__main__":
    sys.stdout.write(page())
