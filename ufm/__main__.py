"""``python -m ufm``."""

import sys

from ufm.cli import main

if __name__ == "__main__":
    sys.exit(main())
