"""``python -m softmaxcode.exact``: make the table of subsets again, which takes about 15 minutes on one core."""

from __future__ import annotations

import sys

from softmaxcode.exact.families import constructions
from softmaxcode.exact.subset_table import DIMENSIONS, MAX_VECTORS, table_path, write_table


def main() -> int:
    """Search for subsets of every construction that the table covers, and write the file in the package."""
    codes = [c for d in range(3, DIMENSIONS + 1) for c in constructions(d) if 2 * d < c.K <= MAX_VECTORS]
    print(f"{write_table(table_path(), codes)} rows in {table_path()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
