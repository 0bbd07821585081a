"""The studies and the report as commands: their options are those of their plan, of every run and of its execution."""

from __future__ import annotations

import inspect
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from experiments.files import Plan, read_json, write_json
from experiments.model import untrained_network
from experiments.report import report as write_page
from experiments.runs import Results
from experiments.settings import RunSettings
from experiments.studies import STUDIES, first_process, study
from experiments.training import Execution, check_batch, loaded
from softmaxcode.checks.arguments import check_integer, printable
from softmaxcode.checks.tensors import MAX_NAMED
from softmaxcode.cli.arguments import chosen_output, resumable
from softmaxcode.cli.options import Force, Output, parameters, takes
from softmaxcode.parallel.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from experiments.data import Data

RESULTS = "out/experiments"
#: What a study sets itself, run by run.
OF_ONE_RUN = ("head", "cmf_momentum", "assignment", "initial", "frozen", "seed")


def __getattr__(name: str) -> Any:
    """The command of a study."""
    if name not in STUDIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return study_command(name)


def study_command(name: str) -> Callable[..., int]:
    """The command of a study, with the options of its plan, and those of every run that the plan does not vary."""
    module = study(name)
    own = inspect.signature(module.plan).parameters
    shared = [one for one in parameters(RunSettings.checked) if one not in OF_ONE_RUN and not {one, f"{one}s"} & {*own}]

    @takes(
        plan=(module.plan,),
        settings=(RunSettings.checked, *shared),
        execution=(Execution, "accelerator", "devices", "workers", "data_root", "tensorboard", "progress"),
    )
    def command(plan, settings, execution, *, jobs: int = 1, results: str = RESULTS) -> int:
        """Train the runs of a study that are missing, and print what they show.

        Parameters
        ----------
        jobs : int
            Runs at once, a process and a thread each.
        results : str
            Results folder; runs are kept there.
        """
        runs = list(dict.fromkeys(module.plan(**plan, **settings)))
        stored = Results(results, execution.get("data_root"))
        where = _execution(jobs, execution)
        _refuse_early(stored, runs, where)
        if first_process():
            stored.root.mkdir(parents=True, exist_ok=True)
            _write_plan(stored.root / f"{name}.json", runs)
        with resumable("finished runs are kept"):
            _train(name, stored, runs, where, jobs, execution.get("progress"))
        if not first_process():
            return 0
        _go_on_alone()
        finished = stored.finished(runs)  # what was in use may have been finished by another command
        if finished:
            print(f"{module.TITLE}. {module.QUESTION}\n\n{module.findings(finished)}\n")
        print(f"{len(finished)} of {len(runs)} runs are in {printable(stored.root)}")
        return int(len(finished) < len(runs))

    return command


@takes(place=(Execution, "data_root"))
def report(place, *, results: str = RESULTS, output: Output = None, force: Force = False) -> int:
    """Write everything found in a results folder as one HTML page.

    Parameters
    ----------
    results : str
        Results folder.
    output : str
        Where to write it (default: report.html in that folder, which is made again).
    """
    path = write_page(Path(results), chosen_output(output, force, (".html",)), **place)
    print(f"written to {printable(path)}")
    return 0


def _execution(jobs: int, given: dict[str, Any]) -> Execution:
    """Where and how runs are executed."""
    execution = Execution(**given)
    check_integer("jobs", jobs, 1)
    check_integer("devices", execution.devices, 1)
    check_integer("workers", execution.workers, 0)
    if jobs > 1 and execution.devices > 1:
        raise ValueError(f"pass --jobs or --devices, not both; got {jobs} and {execution.devices}")
    return execution if jobs == 1 else replace(execution, progress=False)


def _refuse_early(results: Results, runs: list[RunSettings], execution: Execution) -> None:
    """Raise a ValueError for what runs would be refused for, before anything is written: device, data, network."""
    if results.root.exists() and not results.root.is_dir():
        raise ValueError(f"{results.root} is a file; name a folder with --results")
    for precision in {settings.precision for settings in runs}:
        execution.fabric(precision)
    finished = results.finished(runs)
    if finished:
        finished[0].data()
    done = {run.settings.key for run in finished}
    checked = set()
    for settings in runs:
        kind = json.dumps([settings.data, settings.data_options], sort_keys=True)
        if settings.key not in done and kind not in checked:
            data = loaded(settings, execution.data_root)
            check_batch(settings, data)
            untrained_network(settings, data)
            _report_skipped(settings, data)
            checked.add(kind)


def _report_skipped(settings: RunSettings, data: Data) -> None:
    """Name the files that are left out because they hold no image."""
    skipped = getattr(data, "skipped", ())
    if skipped and first_process():
        named = ", ".join(map(printable, skipped[:MAX_NAMED]))
        more = f" and {len(skipped) - MAX_NAMED} more" if len(skipped) > MAX_NAMED else ""
        print(
            f"experiments: {settings.data}: left out {len(skipped)} that are no whole image: {named}{more}",
            file=sys.stderr,
        )


def _train(
    name: str, results: Results, runs: list[RunSettings], execution: Execution, jobs: int, progress: bool | None
) -> None:
    """Train what is missing, and report how each run ended."""
    done = len(results.finished(runs))
    before: str | None = None
    with Progress(name, len(runs), progress if jobs > 1 else False) as bar:
        bar.step(done)
        for settings, reason in results.train(runs, execution, jobs=jobs):
            done += 1
            if first_process():
                bar.clear()
                ended = "the same" if reason and reason == before else reason or _line(results, settings)
                print(f"{done}/{len(runs)} {settings.key}: {printable(ended)}", file=sys.stderr)
            before = reason
            bar.step(1)


def _line(results: Results, settings: RunSettings) -> str:
    (run,) = results.finished([settings])
    final = run.final
    if run.status != "finished":
        return run.status
    return f"GNC2 {final['GNC2']:.4f}, test accuracy {final['test_accuracy']:.2%}, {run.seconds:.0f} s"


def _go_on_alone() -> None:
    """Leave the processes that trained together: what follows is done by the first of them."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "NODE_RANK", "LOCAL_WORLD_SIZE"):
        os.environ.pop(name, None)


def _write_plan(path: Path, runs: list[RunSettings]) -> None:
    """Note the runs that a study asks for; its section of the report is of these alone."""
    left = 0
    if path.is_file():
        keys = {settings.key for settings in runs}
        left = sum(RunSettings.from_dict(old).key not in keys for old in read_json(path, Plan)["runs"])
    if left:
        print(
            f"experiments: {path.name} named {left} runs that are not asked for now: they are kept, and the report "
            "leaves them out (another --results folder would keep both)",
            file=sys.stderr,
        )
    write_json(path, {"runs": [settings.to_dict() for settings in runs]})
