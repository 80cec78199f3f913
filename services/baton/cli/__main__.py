"""The `baton` command, also as process 1 of an init container.

Knows signals; everything else is in `app`.
"""

import signal

from baton.common.lifecycle import leave_on_signals


def main() -> None:
    # Ctrl-C stays Python's own: it unwinds, and ends the pip that pulls.
    leave_on_signals((signal.SIGTERM,))
    from baton.cli.app import run  # a second of imports, in which the signal must count

    run()


if __name__ == "__main__":
    main()
