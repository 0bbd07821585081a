"""Optimiser recipes for each head on an MLP: ``python -m benchmarks.recipes [--write docs/how-to/optimiser.md]``."""

from __future__ import annotations

import argparse
import warnings
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
import torch

import softmaxcode as sc
from benchmarks.report import Page
from softmaxcode.checks.geoopt import geoopt
from softmaxcode.nn import CMFClassifier, CodeClassifier, SphericalClassifier

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = Page("docs/how-to/optimiser.md", ("recipes",))
K, D, INPUTS, HIDDEN = 50, 8, 20, 128
SAMPLES, BATCH, EPOCHS, SEEDS = 1000, 100, 40, 2
TEMPERATURE = 0.1


class Recipe(NamedTuple):
    """A head, an optimiser and its learning rate."""

    head: str
    optimizer: str
    rate: float


RECIPES = (
    Recipe("SphericalClassifier", "SGD, momentum 0.9", 0.1),
    Recipe("SphericalClassifier", "SGD, momentum 0.9", 0.02),
    Recipe("SphericalClassifier", "Adam", 3e-3),
    Recipe("SphericalClassifier(riemannian=True)", "RiemannianAdam", 3e-3),
    Recipe("SphericalClassifier(riemannian=True)", "RiemannianSGD, momentum 0.9", 0.05),
    Recipe("CMFClassifier", "SGD, momentum 0.9", 0.02),
    Recipe("CMFClassifier", "Adam", 3e-3),
    Recipe("CodeClassifier", "SGD, momentum 0.9", 0.1),
    Recipe("CodeClassifier", "Adam", 3e-3),
)


def train(recipe: Recipe, seed: int) -> tuple[float, float]:
    """Training accuracy and margin after `EPOCHS` on Gaussian clusters."""
    torch.manual_seed(seed)
    centres, labels = torch.randn(K, INPUTS), torch.arange(SAMPLES) % K
    inputs = centres[labels] + 0.5 * torch.randn(SAMPLES, INPUTS)
    network = torch.nn.Sequential(torch.nn.Linear(INPUTS, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, D))
    heads = {
        "SphericalClassifier": lambda: SphericalClassifier(K, D, TEMPERATURE, seed=seed),
        "SphericalClassifier(riemannian=True)": lambda: SphericalClassifier(
            K, D, TEMPERATURE, riemannian=True, seed=seed
        ),
        "CMFClassifier": lambda: CMFClassifier(K, D, TEMPERATURE, momentum=0.9),
        "CodeClassifier": lambda: CodeClassifier(sc.best_known(K, D), TEMPERATURE, seed=seed),
    }
    head = heads[recipe.head]()
    parameters = [*network.parameters(), *head.parameters()]
    optimizers = {
        "SGD, momentum 0.9": lambda: torch.optim.SGD(parameters, recipe.rate, momentum=0.9),
        "Adam": lambda: torch.optim.Adam(parameters, recipe.rate),
        "RiemannianAdam": lambda: geoopt.optim.RiemannianAdam(parameters, recipe.rate),
        "RiemannianSGD, momentum 0.9": lambda: geoopt.optim.RiemannianSGD(parameters, recipe.rate, momentum=0.9),
    }
    optimizer = optimizers[recipe.optimizer]()
    if isinstance(head, CMFClassifier):
        head.attach(optimizer)
    for _ in range(EPOCHS):
        for batch in torch.randperm(SAMPLES).split(BATCH):
            optimizer.zero_grad()
            head(network(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        accuracy = float((head(network(inputs)).argmax(1) == labels).double().mean())
    return accuracy, sc.margin(head.weight.detach(), normalize=True).margin


def table() -> pd.DataFrame:
    """One row per recipe: the smaller value of the seeds."""
    rows = []
    for recipe in RECIPES:
        found = [train(recipe, seed) for seed in range(SEEDS)]
        print(recipe, found, flush=True)
        accuracies, margins = zip(*found, strict=True)
        rows.append(
            {
                "head": f"`{recipe.head}`",
                "optimiser": recipe.optimizer,
                "learning rate": f"{recipe.rate:g}",
                "training accuracy": f"{min(accuracies):.3f}",
                "margin": f"{min(margins):.3f}",
            }
        )
    return pd.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, print the table and write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes", description=(__doc__ or "").splitlines()[0])
    PAGE.add_option(parser)
    chosen = parser.parse_args(arguments)
    PAGE.publish({"recipes": table()}, chosen.write)


if __name__ == "__main__":
    main()
