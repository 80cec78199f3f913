"""`python -m baton.router`. Knows argv and environ; everything else is in `process`."""

import os
import sys

from baton.common.lifecycle import leave_on_signals
from baton.rpc.polling import poll_on_one_thread


def run() -> int:
    leave_on_signals()
    poll_on_one_thread(os.environ)
    from baton.router.process import main  # a second of imports, in which signals must count

    return main(sys.argv[1:], os.environ)


if __name__ == "__main__":
    sys.exit(run())
