"""The command ``python -m experiments``: a study, a comparison, or the report of a results folder."""

from __future__ import annotations

import argparse
import functools
import inspect
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.files import Plan, read_json, write_json
from experiments.studies import STUDIES, study
from softmaxcode.checks.arguments import printable
from softmaxcode.cli.arguments import Parser, chosen_output, output_option, run_command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from experiments.data import Data
    from experiments.runs import Results
    from experiments.settings import RunSettings
    from experiments.training import Execution

RESULTS = Path("out", "experiments")
#: Those that are dictionaries, written as JSON.
DICTIONARIES = {
    "data_options": """of the data set, added to the study's, such as '{"train_per_class": 50}' of digit-pairs""",
    "network_options": """of the network, such as '{"width": 96}' of vit or text-transformer""",
}


@functools.cache
def _settings() -> dict[str, tuple[type, str]]:
    """Settings of a run that a study may be given for all its runs."""
    from experiments.data import DATASETS  # with PyTorch, in seconds
    from experiments.networks import NETWORKS

    return {
        "data": (str, f"data set ({', '.join(DATASETS)})"),
        "network": (str, f"network ({', '.join(NETWORKS)})"),
        "d": (int, "width of the features"),
        "temperature": (float, "temperature"),
        "optimizer": (str, "sgd or adamw"),
        "learning_rate": (float, "learning rate of the first step"),
        "weight_decay": (float, "weight decay"),
        "epochs": (int, "epochs"),
        "batch_size": (int, "images per batch, of all processes together"),
        "measure_every": (int, "epochs between two measurements"),
        "precision": (str, "32-true, bf16-mixed or 16-mixed"),
    }


def _parser(chosen: str) -> argparse.ArgumentParser:
    """The parser of all commands; only the chosen one is imported, which takes seconds, and has its options."""
    description = "Real networks trained on real data, compared with computed Softmax Codes."
    parser = Parser(prog="python -m experiments", description=description)
    commands = parser.add_subparsers(dest="command", parser_class=Parser)
    for name, about in STUDIES.items():
        one = commands.add_parser(name, help=about)
        if name == chosen:
            _study_options(one, study(name))
    compare = commands.add_parser("compare", help="a classifier out of a file against the best code known")
    if chosen == "compare":
        from experiments import compare_command

        compare_command.add_options(compare)
    report = commands.add_parser("report", help="everything found in a results folder, as one HTML page")
    _results_option(report)
    output_option(
        report, "where to write it (default: report.html in that folder, which is made again)", metavar="PAGE"
    )
    return parser


def _study_options(parser: argparse.ArgumentParser, module: ModuleType) -> None:
    """The options of a study: its plan's own, those of every run, and where and how."""
    parser.description = f"{module.TITLE}. {module.QUESTION}"
    own, described = _own_options(module), _described(module)
    for option in own:
        _add(parser, option.name, option.default, described[option.name])
    names = {option.name for option in own}
    for field, (kind, text) in _settings().items():
        if not {field, f"{field}s"} & names:  # a study with temperatures has no one temperature
            _optional(parser, field, type=kind, help=f"{text}, of every run")
    for field, text in DICTIONARIES.items():
        _optional(parser, field, type=_dictionary, metavar="JSON", help=text)
    _execution_options(parser)
    _results_option(parser)


def _own_options(module: ModuleType) -> list[inspect.Parameter]:
    """The keyword options of a study's plan that are its own."""
    parameters = inspect.signature(module.plan).parameters.values()
    return [parameter for parameter in parameters if parameter.kind == inspect.Parameter.KEYWORD_ONLY]


def _optional(parser: argparse.ArgumentParser, name: str, **how: Any) -> None:
    """An option that is absent where it is not given."""
    flag = f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"
    parser.add_argument(*{flag, f"--{name.replace('_', '-')}"}, dest=name, default=argparse.SUPPRESS, **how)


def _add(parser: argparse.ArgumentParser, name: str, default: Any, about: str) -> None:
    """An option of a plan, of the type of its default."""
    several = isinstance(default, tuple)
    values = default if several else (default,)
    shown = " ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values)
    nargs = {"nargs": "+"} if several else {}
    _optional(parser, name, type=type(values[0]), help=f"{about} (default {shown})", **nargs)


def _described(module: ModuleType) -> dict[str, str]:
    """One line per parameter, from the docstring of a study's plan."""
    found = re.findall(r"^(\w+(?:, \w+)*) : .*\n((?:    .*\n)+)", inspect.getdoc(module.plan) or "", re.M)
    return {
        name: " ".join(lines.split()).rstrip(".").replace("%", "%%")
        for names, lines in found
        for name in names.split(", ")
    }


def _dictionary(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"wants a JSON object; got {text!r}")
    return found


def _results_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results",
        metavar="FOLDER",
        default=str(RESULTS),
        help=f"results folder (default {RESULTS}); runs are kept there",
    )
    parser.add_argument(
        "--data-root", metavar="FOLDER", help="where data sets are (default: $SOFTMAXCODE_DATA, or data)"
    )


def _execution_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, a process and a thread each (default 1)")
    parser.add_argument("--accelerator", default="auto", help="auto (default), cpu, cuda or mps")
    parser.add_argument("--devices", type=int, default=1, help="devices that share a run (default 1)")
    parser.add_argument(
        "--workers", type=int, default=0, help="processes that read the data of a run ahead (default 0)"
    )
    parser.add_argument("--tensorboard", action="store_true", help="log to TensorBoard as well as to history.csv")
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="show a progress bar (default: on a terminal)",
    )


def _planned(module: ModuleType, arguments: argparse.Namespace) -> list[RunSettings]:
    """The runs of a study with the options that were given."""
    names = {option.name for option in _own_options(module)} | _settings().keys() | DICTIONARIES.keys()
    given = {name: value for name, value in vars(arguments).items() if name in names}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    runs: list[RunSettings] = module.plan(**given)
    return list(dict.fromkeys(runs))


def _execution(arguments: argparse.Namespace) -> Execution:
    """Where and how runs are executed."""
    from experiments.training import Execution
    from softmaxcode.checks.arguments import check_integer

    jobs = check_integer("jobs", arguments.jobs, 1)
    devices = check_integer("devices", arguments.devices, 1)
    if jobs > 1 and devices > 1:
        raise ValueError(f"pass --jobs or --devices, not both; got {jobs} and {devices}")
    return Execution(
        accelerator=arguments.accelerator,
        devices=devices,
        workers=check_integer("workers", arguments.workers, 0),
        data_root=arguments.data_root,
        tensorboard=arguments.tensorboard,
        progress=arguments.progress if jobs == 1 else False,
    )


def _refuse_early(results: Results, runs: list[RunSettings], execution: Execution) -> None:
    """Raise a ValueError for what runs would be refused for, before anything is written: device, data, network."""
    from experiments.model import untrained_network
    from experiments.training import check_batch, loaded

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
    from softmaxcode.checks.tensors import MAX_NAMED

    skipped = getattr(data, "skipped", ())
    if skipped and _first_process():
        named = ", ".join(map(printable, skipped[:MAX_NAMED]))
        more = f" and {len(skipped) - MAX_NAMED} more" if len(skipped) > MAX_NAMED else ""
        print(
            f"experiments: {settings.data}: left out {len(skipped)} that are no whole image: {named}{more}",
            file=sys.stderr,
        )


def _train(results: Results, runs: list[RunSettings], execution: Execution, arguments: argparse.Namespace) -> None:
    """Train what is missing, and report how each run ended."""
    from softmaxcode.parallel.progress import Progress

    done = len(results.finished(runs))
    show = arguments.progress if arguments.jobs > 1 else False
    before: str | None = None
    with Progress(arguments.command, len(runs), show) as bar:
        bar.step(done)
        for settings, reason in results.train(runs, execution, jobs=arguments.jobs):
            done += 1
            if _first_process():
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


def _first_process() -> bool:
    """Whether this is the process of several that prints and writes."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def _go_on_alone() -> None:
    """Leave the processes that trained together: what follows is done by the first of them."""
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "NODE_RANK", "LOCAL_WORLD_SIZE"):
        os.environ.pop(name, None)


def _study(arguments: argparse.Namespace) -> int:
    from experiments.runs import Results

    module = study(arguments.command)
    runs = _planned(module, arguments)
    results = Results(arguments.results, arguments.data_root)
    execution = _execution(arguments)
    _refuse_early(results, runs, execution)
    if _first_process():
        results.root.mkdir(parents=True, exist_ok=True)
        _write_plan(results.root / f"{arguments.command}.json", runs)
    _train(results, runs, execution, arguments)
    if not _first_process():
        return 0
    _go_on_alone()
    finished = results.finished(runs)  # what was in use may have been finished by another command
    if finished:
        print(f"{module.TITLE}. {module.QUESTION}\n\n{module.findings(finished)}\n")
    print(f"{len(finished)} of {len(runs)} runs are in {printable(results.root)}")
    return int(len(finished) < len(runs))


def _write_plan(path: Path, runs: list[RunSettings]) -> None:
    """Note the runs that a study asks for; its section of the report is of these alone."""
    from experiments.settings import RunSettings

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


def _report(arguments: argparse.Namespace) -> int:
    from experiments.report import report

    output = chosen_output(arguments, (".html",))
    path = report(Path(arguments.results), output, data_root=arguments.data_root)
    print(f"written to {printable(path)}")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from experiments import compare_command

    return compare_command.run(arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0 done, 1 a run failed, else as `run_command`)."""
    given = sys.argv[1:] if argv is None else list(argv)
    parser = _parser(given[0] if given else "")
    arguments = parser.parse_args(given)
    if arguments.command is None:
        parser.error(f"name what to do: {', '.join(STUDIES)}, compare or report")
    action = {"compare": _compare, "report": _report}.get(arguments.command, _study)
    return run_command(
        "experiments",
        lambda: action(arguments),
        interrupted="interrupted"
        + ("; finished runs are kept, and the same command resumes" if arguments.command in STUDIES else ""),
        first=_first_process,
        program=argv is None,
    )
