"""The command ``python -m benchmarks.open_question``."""

import sys

from benchmarks.open_question.command import main

sys.exit(main())
