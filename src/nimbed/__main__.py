"""`python -m nimbed` is the command `nimbed`."""

import sys

from nimbed.cli import main

if __name__ == "__main__":
    sys.exit(main())
