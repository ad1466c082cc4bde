"""`python -m avrobust`."""

import sys

from avrobust.cli import main

if __name__ == "__main__":
    sys.exit(main())
