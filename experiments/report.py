"""``python -m experiments report``: everything found in a results folder, as one page."""

from __future__ import annotations

import time
from pathlib import Path

from experiments.files import Plan, read_json
from experiments.settings import RunSettings
from experiments.studies import STUDIES, study
from softmaxcode.pages import Findings, ReportSection, write_report
from softmaxcode.storage.disk import check_output
from softmaxcode.storage.provenance import installed_version


def report(
    results: str | Path,
    output: str | Path | None = None,
    *,
    data_root: str | None = None,
) -> Path:
    """Write the page of everything found in a results folder.

    Parameters
    ----------
    results : path
        Where studies left their runs and, as ``<study>.json``, the settings of those they asked for.
    output : path, optional
        An ``.html`` file; by default ``report.html`` in that folder.
    data_root : str, optional
        The folder of the data sets.

    Returns
    -------
    Path
        Of the page. A study has a section where its runs were asked for, be they finished or not.

    Raises
    ------
    ValueError
        If there is no such folder, a file of it is damaged, or the page cannot be written.
    """
    root = Path(results)
    if not root.is_dir():
        raise ValueError(f"cannot read {results}: there is no such folder")
    output = check_output(root / "report.html" if output is None else output, (".html",))
    meta = {
        "Results": str(root.resolve()),
        "Written": time.strftime("%Y-%m-%d %H:%M"),
        "softmaxcode": installed_version(),
    }
    return write_report(found_sections(root, data_root), output, meta=meta)


def found_sections(results: Path, data_root: str | None = None) -> list[ReportSection]:
    """What each study of a results folder found, be its runs finished or not.

    Raises
    ------
    ValueError
        If a file of the folder is damaged.
    """
    from experiments.runs import Results

    kept = Results(results, data_root)
    sections = []
    for name in STUDIES:
        plan = results / f"{name}.json"
        if plan.is_file():
            asked = _asked(plan)
            runs = kept.finished(asked)
            module = study(name)
            found = module.findings(runs) if runs else Findings()
            seconds = sum(run.seconds for run in runs)
            sections.append(ReportSection(name, module.TITLE, module.QUESTION, found, len(runs), len(asked), seconds))
    return sections


def _asked(path: Path) -> list[RunSettings]:
    """The runs that a study asked for."""
    try:
        return [RunSettings.from_dict(stored) for stored in read_json(path, Plan)["runs"]]
    except ValueError as error:
        raise ValueError(f"cannot read {path}: it is not the plan of a study, or damaged ({error})") from None
