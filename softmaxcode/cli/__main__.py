"""``python -m softmaxcode.cli``."""

import sys

from softmaxcode.cli import main

if __name__ == "__main__":
    sys.exit(main())
