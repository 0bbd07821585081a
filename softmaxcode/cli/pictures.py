"""``softmaxcode plot`` and ``softmaxcode landscape``."""

from __future__ import annotations

from softmaxcode.checks.arguments import printable
from softmaxcode.cli.arguments import chosen_output
from softmaxcode.cli.options import Force, Output, takes
from softmaxcode.code import load
from softmaxcode.plotting import landscape as best_margins
from softmaxcode.plotting import picture
from softmaxcode.plotting.style import SUFFIXES


@takes(options=(load, "dim", "normalize"))
def plot(file: str, /, options, *, output: Output, force: Force = False) -> int:
    """Draw a code: sphere, cosine spectrum, margins.

    Parameters
    ----------
    file : str
        .npz, .npy, .txt or .csv.
    output : str
        Write the figure: .png, .pdf or .svg.
    """
    path = chosen_output(output, force, SUFFIXES)
    picture.plot(load(file, **options), path)
    print(f"written to {printable(path)}")
    return 0


@takes(options=(best_margins.plot_landscape, "dims", "max_classes"))
def landscape(options, *, output: Output, force: Force = False) -> int:
    """Draw the best margins known against K, one panel per dimension.

    Parameters
    ----------
    output : str
        Write the figure: .png, .pdf or .svg.
    """
    path = chosen_output(output, force, SUFFIXES)
    best_margins.plot_landscape(path=path, **options)
    print(f"written to {printable(path)}")
    return 0
