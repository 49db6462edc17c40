"""`python -m strokeseg`: the command line."""

import sys

from strokeseg.cli import main

if __name__ == "__main__":
    sys.exit(main())
