"""`python -m nimbed` is the command `nimbed`."""

import os
import sys

# `python -m` puts the current folder first, where a stranger's model may lie. (Python's own start has used it by now;
# the command `nimbed` never does.)
if sys.path[:1] == [os.getcwd()]:  # noqa: PTH109 (no more imports before this)
    del sys.path[0]

from nimbed.cli import main

if __name__ == "__main__":
    sys.exit(main())
