"""`python -m aiofluence`: the command line, for when the script `aiofluence` is not on PATH.

It does the same as the script, with the same exit codes.
"""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
