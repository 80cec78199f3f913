"""`python -m baton_operator`. Knows argv and environ; everything else is in `app`."""

import os
import sys

from baton_operator.app import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
