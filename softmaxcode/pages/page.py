"""Findings in one self-contained HTML page, with their tables as files beside it."""

from __future__ import annotations

import base64
import importlib.util
import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import matplotlib
import pandas as pd

from softmaxcode import tables
from softmaxcode.checks.arguments import printable
from softmaxcode.pages.findings import Findings
from softmaxcode.pages.tables import MISSING, as_html, distinct, flat, storable
from softmaxcode.storage.disk import check_output, written_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

#: Rows of a table that the page shows; its file has all.
MAX_ROWS = 500
#: Characters of a file name, but for its suffix.
MAX_SLUG = 80
#: A figure whose SVG is larger (bytes) is shown as PNG.
MAX_SVG = 1_000_000
PNG_DPI = 150
#: How Matplotlib's warning of a letter that no font has begins.
MISSING_GLYPH = "Glyph .* missing from font"


@dataclass(frozen=True, eq=False)
class ReportSection:
    """What the page shows of one study.

    Attributes
    ----------
    name : str
        Of the study, such as ``gnc``; no two sections of a page share one.
    title, question : str
        A line each.
    findings : Findings
        What it found.
    runs : int or None
        Finished runs it is drawn from; None where it is drawn from no runs.
    planned : int or None
        Runs it asked for, where that is known.
    seconds : float or None
        What those runs took, together.
    """

    name: str
    title: str
    question: str
    findings: Findings
    runs: int | None = None
    planned: int | None = None
    seconds: float | None = None


def write_report(
    sections: Sequence[ReportSection],
    path: str | Path,
    *,
    title: str = "Experiments",
    meta: Mapping[str, Any] | None = None,
) -> Path:
    """Write one HTML page that needs no other file and no network.

    Parameters
    ----------
    sections : sequence of ReportSection
        In the order of the page; there may be none.
    path : path
        An ``.html`` file in a folder that exists; it is written atomically.
    title : str
        Heading of the page.
    meta : mapping, optional
        Common to all sections, such as the date and the machine: a name and its text a line.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    ValueError
        If the path cannot be written, or two sections have one name.

    Notes
    -----
    Figures stand in the page itself, as SVG, or PNG where that would be larger than ``MAX_SVG``. Of a long table it
    shows the first ``MAX_ROWS`` rows. Every table is also written, whole, to ``<stem>-tables/<section>-<caption>``
    beside the page, as ``.parquet``, or ``.csv`` where pyarrow is not installed, and linked.

    Examples
    --------
    >>> import tempfile
    >>> found = Findings(["GNC2 is 0.57."], {"Margins": pd.DataFrame({"head": ["learned"], "GNC2": [0.57]})})
    >>> folder = Path(tempfile.mkdtemp())
    >>> section = ReportSection("gnc", "Collapse", "Does it happen?", found, runs=1)
    >>> page = write_report([section], folder / "report.html")
    >>> page.read_text().count("</table>"), [file.stem for file in folder.glob("report-tables/*")]
    (1, ['gnc-margins'])
    """
    path = check_output(path, (".html",))
    names = [section.name for section in sections]
    if len(set(names)) < len(names):
        raise ValueError(f"sections must have a name each; got {', '.join(names)}")
    folder = path.parent / f"{path.stem}-tables"
    views = [_section(section, folder) for section in sections]
    content = _TEMPLATES.get_template("page.html.j2").render(
        title=title, meta=dict(meta or {}), sections=views, missing=MISSING
    )
    with written_whole(path) as temporary:
        # names of files may hold bytes that are no text
        temporary.write_text(content, encoding="utf-8", errors="replace")
    return path


def _section(section: ReportSection, folder: Path) -> dict[str, Any]:
    """A section as the template wants it; its tables are written."""
    found = section.findings
    slugs = distinct(_slug(f"{section.name} {caption}") for caption in found.tables)
    return {
        "id": _slug(section.name),
        "title": section.title,
        "question": section.question,
        "effort": effort(section),
        "statements": found.statements,
        "tables": [
            _table(caption, frame, folder, slug)
            for (caption, frame), slug in zip(found.tables.items(), slugs, strict=True)
        ],
        "figures": [
            {
                "caption": caption,
                "source": _source(figure),
                "alt": _described(caption, figure),
                "width": round(96 * figure.get_figwidth()),
            }
            for caption, figure in found.figures.items()
        ],
    }


def effort(section: ReportSection) -> str:
    """Runs of a section, of how many planned, and the time they took."""
    if section.runs is None:
        return ""
    planned = "" if section.planned in (None, section.runs) else f" of {section.planned} planned"
    unit = "run" if f"{section.planned or section.runs}" == "1" else "runs"
    took = f", {_duration(section.seconds)} of training" if section.seconds and section.seconds > 0 else ""
    return f"{section.runs}{planned} {unit}{took}"


def _duration(seconds: float) -> str:
    """In the unit a reader would take: ``42 s``, ``22 min``, ``3 h 5 min``."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _slug(text: str) -> str:
    """Lower-case letters and digits with hyphens between, for ids and file names."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return (slug if len(slug) <= MAX_SLUG else slug[:MAX_SLUG].rpartition("-")[0]) or "untitled"


# Figures


def _source(figure: Figure) -> str:
    """A figure as a data URI: an image of its own, so that the ids of two SVGs cannot meet."""
    content, kind = _svg(figure), "svg+xml"
    if len(content) > MAX_SVG:
        content, kind = _image(figure, "png", dpi=PNG_DPI), "png"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _svg(figure: Figure) -> bytes:
    """A figure as SVG, which is the same for the same figure.

    Letters are drawn as curves. Where no font of this machine has one of them, as of a class named in another script,
    texts are left to the browser, which finds a font.
    """
    with (
        matplotlib.rc_context({"svg.hashsalt": "softmaxcode", "svg.fonttype": "path"}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("error", MISSING_GLYPH)
        try:
            return _image(figure, "svg", metadata={"Date": None})
        except UserWarning:
            matplotlib.rcParams["svg.fonttype"] = "none"
            warnings.filterwarnings("ignore", MISSING_GLYPH)
            return _image(figure, "svg", metadata={"Date": None})


def _image(figure: Figure, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, facecolor="white", **options)
    return stream.getvalue()


def _described(caption: str, figure: Figure) -> str:
    """The alternative text of a figure: its caption, and what is drawn against what."""
    panels = [(axes.get_title() or axes.get_ylabel(), axes.get_xlabel()) for axes in figure.axes]
    drawn = [f"{y} against {x}" for y, x in panels if x and y]
    return f"{caption}: {'; '.join(drawn)}" if drawn else caption


# Tables


def _table(caption: str, frame: pd.DataFrame, folder: Path, slug: str) -> dict[str, Any]:
    """A table as the template wants it; it is written to the folder, with every number."""
    whole = flat(frame)
    folder.mkdir(exist_ok=True)
    path = folder / f"{slug}{'.parquet' if importlib.util.find_spec('pyarrow') else '.csv'}"
    tables.write(storable(whole), path)
    caption_id = f"{slug}--caption"
    return {
        "caption": caption,
        "caption_id": caption_id,
        "link": f"{folder.name}/{path.name}",
        "html": as_html(whole.head(MAX_ROWS), slug, caption_id) if whole.size else "",
        "shown": min(len(whole), MAX_ROWS),
        "length": len(whole),
    }


_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=lambda value: printable(value) if type(value) is str else value,  # names of files and classes
)
