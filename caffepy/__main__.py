"""`python -m caffepy`, and what the command `caffepy` starts."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line. While its modules are imported, Ctrl-C ends the program without a word."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        from caffepy.cli import main as run

        signal.signal(signal.SIGINT, signal.default_int_handler)
    else:
        from caffepy.cli import main as run
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
