"""`python -m irlib` is the `irlib` command."""

import sys

from irlib.cli import main

if __name__ == "__main__":
    sys.exit(main())
