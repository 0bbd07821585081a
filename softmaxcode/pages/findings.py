"""What was found: sentences, tables and figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from softmaxcode.checks.arguments import printable
from softmaxcode.pages.tables import as_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Findings:
    """What was found; `print` shows the statements and every table.

    Attributes
    ----------
    statements : list of str
        Sentences with their numbers, the most important first.
    tables : dict
        Data frames by caption, in order.
    figures : dict
        Matplotlib figures by caption, in order.

    Examples
    --------
    >>> import pandas as pd
    >>> str(Findings(["It is 0.5."], {"Margins": pd.DataFrame({"GNC2": [0.5, float("nan")]})})).split()
    ['-', 'It', 'is', '0.5.', 'Margins', 'GNC2', '0.5', '–']
    """

    statements: list[str] = field(default_factory=list)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = ["\n".join(f"- {printable(statement)}" for statement in self.statements)]
        for caption, table in self.tables.items():
            lines = as_text(table).to_string(index=False).split("\n")
            parts.append("\n".join(map(printable, [caption, *lines])))
        return "\n\n".join(parts)
