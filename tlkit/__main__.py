"""The command line: ``python -m tlkit --help``."""

import os
import signal
import sys


def _stop(number: int, frame: object) -> None:
    """End at once, since nothing has begun: who is told by an exception amid an import may print anything."""
    os._exit(128 + number)


if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _stop)

from tlkit.commands import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
