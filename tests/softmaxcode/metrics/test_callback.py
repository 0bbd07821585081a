"""The Lightning callback measures like the metrics, changes nothing in training and draws the limits."""

from __future__ import annotations

import subprocess
import sys
import warnings

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import softmaxcode as sc
from softmaxcode.certificates.loss import minimizer_margin
from softmaxcode.metrics import GeneralizedNeuralCollapse
from softmaxcode.metrics.callback import GNCCallback
from softmaxcode.metrics.figure import plot_collapse
from softmaxcode.nn import CMFClassifier, SphericalClassifier
from tests.processes import HANG

K, D, N = 6, 3, 120


class Net(pl.LightningModule):
    """A linear backbone with dropout, and a head."""

    def __init__(self, head: nn.Module, *, calls_head: bool = True) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(5, D), nn.Dropout(0.3))
        self.head = head
        self.calls_head = calls_head

    def forward(self, x):
        return self.head(self.backbone(x)) if self.calls_head else self.backbone(x)

    def training_step(self, batch, index):
        x, y = batch
        if isinstance(self.head, nn.Linear):
            return nn.functional.cross_entropy(self.head(self.backbone(x)), y)
        return self.head(self.backbone(x), y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def data(seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    return TensorDataset(torch.randn(N, 5, generator=generator), torch.arange(N) % K)


def fit(net: Net, callback: GNCCallback | None, epochs: int = 3, **kwargs):
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[] if callback is None else [callback],
        **kwargs,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning speaks of workers
        torch.manual_seed(2)
        trainer.fit(net, DataLoader(data(), batch_size=40, shuffle=True))
    return trainer


def net(head: nn.Module | None = None, **kwargs) -> Net:
    torch.manual_seed(1)
    return Net(head or SphericalClassifier(K, D, 0.1, seed=0), **kwargs)


def test_the_last_row_is_what_the_metrics_say_of_the_trained_network():
    model, callback = net(), GNCCallback()
    trainer = fit(model, callback)
    assert callback.history.index.tolist() == [0, 1, 2] and callback.history.index.name == "epoch"
    metrics = GeneralizedNeuralCollapse(K, D, temperature=0.1)
    metrics.set_classifier(model.head.weight)
    model.eval()
    x, y = data().tensors
    metrics.update(model.backbone(x).detach(), y)
    expected = {name: float(value) for name, value in metrics.compute().items()}
    assert callback.history.loc[2].to_dict() == pytest.approx(expected, abs=1e-6)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert logged["gnc/GNC2"] == pytest.approx(expected["GNC2"], abs=1e-6)


def test_training_goes_on_as_if_nothing_had_been_measured():
    first, second = net(), net()
    fit(first, None)
    fit(second, GNCCallback())
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_each_module_gets_its_own_mode_back():
    model = net()
    model.backbone.eval()  # frozen on purpose
    callback = GNCCallback()
    trainer = fit(model, None, epochs=1)
    model.train()
    model.backbone.eval()
    callback.measure(trainer, model, DataLoader(data(), batch_size=50))
    assert model.training and model.head.training and not model.backbone.training


def test_a_class_mean_head_does_not_take_the_measurement_for_training():
    head = CMFClassifier(K, D, 0.1, seed=0)
    model = net(head)
    trainer = fit(model, None, epochs=1)
    head.step()
    before = head.weight.clone()
    GNCCallback().measure(trainer, model, DataLoader(data(), batch_size=50))
    head.step()
    assert torch.equal(head.weight, before)


IN_PROCESSES = """
import logging, os, sys, warnings
warnings.simplefilter("ignore")
logging.disable()
import lightning.pytorch as pl, torch
from torch.utils.data import DataLoader, Subset, TensorDataset
from softmaxcode.metrics.callback import GNCCallback
from softmaxcode.nn import CMFClassifier

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = torch.nn.Linear(5, 3), CMFClassifier(6, 3, 0.1, seed=0)
    def forward(self, x):
        return self.head(self.backbone(x))
    def training_step(self, batch, index):
        return self.head(self.backbone(batch[0]), batch[1])
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        self.head.attach(optimizer)
        return optimizer

devices = int(sys.argv[1])
torch.manual_seed(1)
data = TensorDataset(torch.randn(120, 5, dtype=torch.float64), torch.arange(120) % 6)
model, callback = Net().double(), GNCCallback()
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto",
    logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    callbacks=[callback], use_distributed_sampler=False)  # Lightning's own shuffles
mine = Subset(data, range(int(os.environ.get("LOCAL_RANK", 0)), 120, devices))
trainer.fit(model, DataLoader(mine, batch_size=60 // devices))
if trainer.is_global_zero:
    callback.history.to_csv(sys.argv[2])
"""


@pytest.mark.processes
@pytest.mark.slow
def test_two_processes_train_and_measure_what_one_does(tmp_path):
    """The class means of a CMF head too: DistributedDataParallel splits each step's batch over the processes."""
    script = tmp_path / "train.py"
    script.write_text(IN_PROCESSES)
    histories = []
    for devices in (1, 2):
        table = tmp_path / f"{devices}.csv"
        ran = subprocess.run(
            [sys.executable, str(script), str(devices), str(table)], capture_output=True, text=True, timeout=HANG
        )
        assert ran.returncode == 0, ran.stderr
        histories.append(pd.read_csv(table, index_col="epoch"))
    assert len(histories[0]) == 2
    pd.testing.assert_frame_equal(*histories, rtol=1e-9, atol=1e-9)


def test_epochs_between_are_left_out_but_the_last_one_is_not():
    callback = GNCCallback(every_n_epochs=2)
    fit(net(), callback, epochs=5)
    assert callback.history.index.tolist() == [1, 3, 4]


def test_the_limits_follow_an_annealed_temperature():
    model, callback = net(), GNCCallback()
    trainer = fit(model, callback, epochs=1)
    model.head.temperature = 0.02
    callback.measure(trainer, model, DataLoader(data(), batch_size=50))
    rho = sc.best_known(K, D).margin
    assert callback.limits["global minimiser at τ = 0.02"] == pytest.approx(minimizer_margin(K, rho, 0.02))
    assert len(callback.limits) == 2


def test_a_collection_without_a_temperature_cannot_be_given_one():
    with pytest.raises(ValueError, match="made without a temperature"):
        GeneralizedNeuralCollapse(K, D).temperature = 0.1
    with pytest.raises(ValueError, match="temperature must be a finite number above 0"):
        GeneralizedNeuralCollapse(K, D, temperature=0.1).temperature = -1


def test_a_linear_head_has_no_temperature_and_no_certificate():
    callback = GNCCallback()
    fit(net(nn.Linear(D, K, bias=False)), callback, epochs=1)
    assert "certified_margin" not in callback.history
    assert callback.limits == {"ρ* (best known)": sc.best_known(K, D).margin}


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_batches_come_in_the_precision_of_training(precision):
    callback = GNCCallback()
    fit(net(), callback, epochs=1, precision=precision)
    assert np.isfinite(callback.history.loc[0]).all()


def test_a_head_may_be_called_with_keywords():
    class Keywords(Net):
        def forward(self, x):
            return self.head(features=self.backbone(x))

    torch.manual_seed(1)
    callback = GNCCallback()
    fit(Keywords(SphericalClassifier(K, D, 0.1, seed=0)), callback, epochs=1)
    assert len(callback.history) == 1


def test_the_last_epoch_is_measured_however_training_ends():
    callback = GNCCallback(every_n_epochs=2)
    fit(net(), callback, epochs=-1, max_steps=9)  # three epochs of three steps
    assert callback.history.index.tolist() == [1, 2]


def test_another_run_starts_its_own_history():
    callback = GNCCallback()
    fit(net(), callback, epochs=3)
    fit(net(), callback, epochs=1)
    assert callback.history.index.tolist() == [0]


def test_the_classifier_may_be_somewhere_else():
    model = net(nn.Linear(D, K, bias=False))
    callback = GNCCallback(classifier=lambda module: 2 * module.head.weight)
    fit(model, callback, epochs=1)
    assert callback.history["GNC2"][0] == pytest.approx(sc.margin(model.head.weight, normalize=True).margin, abs=1e-7)


def test_features_may_be_given_and_measured_on_other_data():
    seen = []

    def features(module, batch):
        seen.append(len(batch[0]))
        return module.backbone(batch[0]), batch[1]

    callback = GNCCallback(features=features, dataloader=DataLoader(data(3), batch_size=60))
    fit(net(), callback, epochs=1)
    assert seen == [60, 60] and len(callback.history) == 1


def test_history_survives_a_checkpoint(tmp_path):
    callback = GNCCallback()
    trainer = fit(net(), callback, epochs=2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]
    other = GNCCallback()
    other.load_state_dict(next(iter(state.values())))
    pd.testing.assert_frame_equal(other.history, callback.history)


def test_the_figure_is_written_and_names_the_limits(tmp_path):
    callback = GNCCallback(figure=tmp_path / "gnc.png")
    fit(net(), callback, epochs=2)
    assert (tmp_path / "gnc.png").read_bytes()[:4] == b"\x89PNG"
    rho = sc.best_known(K, D).margin
    assert callback.limits == {
        "ρ* (best known)": rho,
        "global minimiser at τ = 0.1": pytest.approx(minimizer_margin(K, rho, 0.1)),
    }
    middle = plot_collapse(callback.history, callback.limits).axes[1]
    drawn = [np.asarray(line.get_ydata(), dtype=float) for line in middle.lines]
    assert any((line == rho).all() for line in drawn)
    texts = [text.get_text() for text in middle.get_legend().get_texts()]
    assert f"ρ* (best known): {rho:.4f}" in texts
    low, high = middle.get_ylim()
    assert low == 0 and high > rho  # the limit is seen from the first epoch on


def test_where_no_code_is_held_both_ends_of_the_bracket_are_lines():
    metrics = GeneralizedNeuralCollapse(777, 3)
    bounds = sc.margin_bounds(777, 3)
    assert metrics.limits == {"lower bound of ρ*": bounds.lower, "upper bound of ρ*": bounds.upper}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fit(net(), GNCCallback("classifier")), "no submodule 'classifier'; its own are backbone, head"),
        (
            lambda: fit(net(), GNCCallback("backbone")),
            r"'backbone' \(Sequential\) has no weight of shape \(K, d\); pass classifier=",
        ),
        (lambda: fit(net(calls_head=False), GNCCallback(), epochs=1), "never called its head 'head'"),
        (lambda: GNCCallback(every_n_epochs=0), "every_n_epochs must be an integer of at least 1"),
        (lambda: GNCCallback(figure="gnc.xyz"), "gnc.xyz"),
        (lambda: GNCCallback()._features_at_head(net(), torch.zeros(3, 5)), "a batch must be a pair"),
        (lambda: plot_collapse(pd.DataFrame({"GNC1": [1.0]})), "it lacks GNC2, GNC3"),
        (lambda: plot_collapse(pd.DataFrame(columns=["GNC1", "GNC2", "GNC3"])), "it has no rows"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_effective_rank_is_in_the_history_and_the_figure():
    callback = GNCCallback()
    trainer = fit(net(), callback, epochs=2)
    ranks = callback.history["effective_rank"]
    assert ranks.between(1, D).all()
    assert float(trainer.callback_metrics["gnc/effective_rank"]) == pytest.approx(ranks[1])
    beside = plot_collapse(callback.history, callback.limits).axes[3]
    assert beside.get_ylabel() == "effective rank of the class means"
    assert beside.lines[0].get_ydata().tolist() == ranks.tolist() and beside.get_ylim()[0] == 0


def test_a_network_whose_features_are_equal_is_reported():
    callback = GNCCallback(features=lambda module, batch: (torch.ones(len(batch[0]), D), batch[1]))
    model = net()
    trainer = fit(model, None, epochs=1)
    with pytest.warns(UserWarning, match="class means are nearly equal"):
        found = callback.measure(trainer, model, DataLoader(data(), batch_size=50))
    assert found["GNC1"] == 0 and found["effective_rank"] == pytest.approx(1)


def test_exact_collapse_is_drawn_on_a_linear_axis():
    history = pd.DataFrame({"GNC1": [0.1, 0.0], "GNC2": [0.5, 0.6], "GNC3": [0.1, 0.05]})
    first, _, last = plot_collapse(history).axes
    assert first.get_yscale() == "linear" and last.get_yscale() == "log"
