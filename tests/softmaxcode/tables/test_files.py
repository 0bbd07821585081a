"""LaTeX of a table: what a document can be compiled with, and formats of numbers."""

from __future__ import annotations

import shutil
import subprocess

import pandas as pd
import pytest

from softmaxcode.tables import COLUMNS, STORED_COLUMNS, latex, markdown, write
from softmaxcode.tables.columns import LATEX, SEARCHED

DATA = pd.DataFrame(
    {
        "K": pd.array([12, 24], dtype="Int64"),
        "margin": [0.55278640450004, float("nan")],
        "max_cosine": [-1 / 3, 0.5],
        "difference": [-1.1e-16, 0.0],
        "seconds": [1.234, 0.5],
        "made_by": ["100 vectors of bch-dual(9) & 5 % of $x_1^2$ ~ #{a}\\b", "snub-cube"],
    }
)


def test_every_column_has_a_name_in_latex():
    assert set(LATEX) == set(COLUMNS) | set(STORED_COLUMNS) and set(SEARCHED) <= set(COLUMNS)


def test_cells_of_latex():
    rows = [line for line in latex(DATA, ".3f").splitlines() if line.startswith(("12", "24"))]
    assert rows == [
        r"12 & 0.553 & $-0.333$ & $-1.1 \times 10^{-16}$ & 1.23 & 100 vectors of bch-dual(9) \& 5 \% of "
        r"\$x\_1\textasciicircum{}2\$ \textasciitilde{} \#\{a\}\textbackslash{}b \\",
        r"24 & -- & 0.500 & 0 & 0.50 & snub-cube \\",
    ]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
@pytest.mark.processes
def test_a_document_with_the_table_compiles(tmp_path):
    head = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
    (tmp_path / "t.tex").write_text(f"{head}{latex(DATA)}\\end{{document}}\n")
    subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True, timeout=60)


def test_a_format_of_csv_and_markdown(tmp_path):
    write(DATA, tmp_path / "t.csv", float_format=".3f")
    again = pd.read_csv(tmp_path / "t.csv")
    assert again["margin"].isna().tolist() == [False, True] and again["max_cosine"].tolist() == [-0.333, 0.5]
    assert again["K"].tolist() == [12, 24] and again["difference"].tolist() == [-1.1e-16, 0]
    assert markdown(DATA[["margin"]], ".3f").split()[-4:] == ["|", "not", "computed", "|"]
    assert " 0.553 |" in markdown(DATA[["margin"]], ".3f")
    write(DATA, tmp_path / "u.csv")
    assert float(pd.read_csv(tmp_path / "u.csv", dtype=str)["max_cosine"][0]) == -1 / 3
