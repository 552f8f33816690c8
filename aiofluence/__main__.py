"""`python -m aiofluence`: the command line, where the script `aiofluence` is not on PATH.

It does what the script does, with the same exit codes.
"""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
