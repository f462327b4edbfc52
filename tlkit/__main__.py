"""The command line: ``python -m tlkit --help``."""

import sys

from tlkit.commands import main

if __name__ == "__main__":
    sys.exit(main())
