"""`python -m baton.router`. Knows argv and environ; everything else is in `process`."""

import os
import sys

from baton.router.process import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
