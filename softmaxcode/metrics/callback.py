"""A Lightning callback that measures generalized neural collapse while a network trains."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from softmaxcode.catalog import UnknownCodeError
from softmaxcode.checks.arguments import check_flag, check_integer
from softmaxcode.checks.tensors import check_classifier
from softmaxcode.compare.reference import reference_code
from softmaxcode.metrics.collection import GeneralizedNeuralCollapse
from softmaxcode.metrics.figure import plot_collapse
from softmaxcode.plotting.style import SUFFIXES
from softmaxcode.storage.disk import check_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


class _ReachedHeadError(Exception):
    """Carries the features out of a forward pass whose logits are not needed."""


class GNCCallback(Callback):
    """Logs GNC1, GNC2 and GNC3 of the training data each epoch, and draws them with the theoretical limits.

    At the end of an epoch the callback puts the network in evaluation mode and runs it once over the training data. The
    features are the input of its head, and the classifier is the head's ``weight``. Each rank runs over its own part,
    and the metrics combine the parts. The callback then restores the random generators, so that measuring does not
    change training.

    Parameters
    ----------
    head : str
        Name of the submodule that maps features (N, d) to logits or loss. Its ``weight`` is (K, d): a head of
        `softmaxcode.nn`, or a `torch.nn.Linear`.
    classifier : callable, optional
        ``classifier(module)`` returns the classifier (K, d), where it is not ``head.weight``.
    every_n_epochs : int
        Measure after every so many epochs, and after the last one, however training ends.
    features : callable, optional
        ``features(module, batch)`` returns features (N, d) and labels (N,). By default ``batch`` is a pair of inputs
        and labels. The features are then the head's input in ``module(inputs)``; nothing after it is computed.
    dataloader : iterable, optional
        Batches to measure on instead of the training data.
    figure : str or Path, optional
        A ``.png``, ``.pdf`` or ``.svg`` file that is drawn again after every measurement.
    prefix : str
        Prefix of the logged names.
    search : bool
        Whether to search for five seconds, when training starts, where the stored reference of (K, d) was never
        searched (see `GNC2`).

    Attributes
    ----------
    history : DataFrame
        The measurements, indexed by epoch (the first is 0).
    limits : dict
        The lines of the figure. They are the best known margin, or the bounds on it where no code is stored. For a
        head with a temperature there is also the lower bound on the margin of a global minimiser (docs/theory.md, T6).

    Raises
    ------
    ValueError
        If the head is not a submodule, has no such weight, or is not reached; also where the metrics raise one.

    Notes
    -----
    A distributed sampler repeats samples so that all ranks have equally many; repeated samples count twice.

    Examples
    --------
    >>> from lightning.pytorch import Trainer
    >>> callback = GNCCallback(every_n_epochs=5)
    >>> trainer = Trainer(callbacks=[callback], logger=False, enable_checkpointing=False, accelerator="cpu")
    >>> callback.history.empty        # until trainer.fit(...)
    True
    """

    def __init__(
        self,
        head: str = "head",
        *,
        classifier: Callable[[LightningModule], Tensor] | None = None,
        every_n_epochs: int = 1,
        features: Callable[[LightningModule, Any], tuple[Tensor, Tensor]] | None = None,
        dataloader: Iterable[Any] | None = None,
        figure: str | Path | None = None,
        prefix: str = "gnc/",
        search: bool = True,
    ) -> None:
        self.head = head
        self.classifier = classifier
        self.every_n_epochs = check_integer("every_n_epochs", every_n_epochs, 1)
        self.features = features or self._features_at_head
        self.dataloader = dataloader
        self.figure = None if figure is None else check_output(figure, SUFFIXES)
        self.prefix = prefix
        self.search = check_flag("search", search)
        self.limits: dict[str, float] = {}
        self._rows: dict[int, dict[str, float]] = {}
        self._ended: int | None = None
        self._metrics: GeneralizedNeuralCollapse | None = None

    @property
    def history(self) -> pd.DataFrame:
        """One row per measurement, indexed by epoch."""
        return pd.DataFrame.from_dict(self._rows, orient="index").rename_axis("epoch")

    def state_dict(self) -> dict[str, Any]:
        """The state in a checkpoint: the history."""
        return {"history": {str(epoch): row for epoch, row in self._rows.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the history from a checkpoint."""
        self._rows = {int(epoch): row for epoch, row in state_dict["history"].items()}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for the head, and for a reference, before the first epoch."""
        K, d = self._weight(pl_module).shape
        if self.search and trainer.is_global_zero and K > 1:  # first on one process; it stores what it finds
            with contextlib.suppress(UnknownCodeError):
                reference_code(K, d)
        trainer.strategy.barrier()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Discard measurements of another run, or of this one after the checkpoint."""
        self._rows = {epoch: row for epoch, row in self._rows.items() if epoch < trainer.current_epoch}
        self._ended = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure, log and draw."""
        self._ended = trainer.current_epoch
        if (self._ended + 1) % self.every_n_epochs == 0 or self._ended + 1 == trainer.max_epochs:
            values = self._record(trainer, pl_module, self._ended)
            pl_module.log_dict({self.prefix + name: value for name, value in values.items()})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the last epoch if training ended early; the module cannot log any more, but its loggers can."""
        if self._ended is None or self._ended in self._rows:
            return
        values = self._record(trainer, pl_module, self._ended)
        for logger in trainer.loggers:
            logger.log_metrics({self.prefix + name: value for name, value in values.items()}, trainer.global_step)

    def _record(self, trainer: Trainer, pl_module: LightningModule, epoch: int) -> dict[str, float]:
        loader = self.dataloader if self.dataloader is not None else trainer.train_dataloader
        if loader is None:
            raise ValueError("GNCCallback measures on the training data, and there are none; name a dataloader")
        self._rows[epoch] = values = self.measure(trainer, pl_module, loader)
        if self.figure is not None and trainer.is_global_zero:
            plot_collapse(self.history, self.limits, self.figure)
        return values

    def measure(self, trainer: Trainer, pl_module: LightningModule, batches: Iterable[Any]) -> dict[str, float]:
        """The metrics of the module over all batches, in evaluation mode."""
        temperature = getattr(pl_module.get_submodule(self.head), "temperature", None)
        metrics = self._fresh_metrics(self._weight(pl_module), temperature)
        modes = {module: module.training for module in pl_module.modules()}
        pl_module.eval()
        precision = trainer.precision_plugin
        try:
            with isolate_rng(), torch.no_grad(), precision.forward_context():
                for batch in batches:
                    batch = precision.convert_input(trainer.strategy.batch_to_device(batch))
                    metrics.update(*self.features(pl_module, batch))
                values = metrics.compute()
        finally:
            for module, training in modes.items():
                module.training = training
            metrics.reset()
        return {name: float(value) for name, value in values.items()}

    @torch.no_grad()
    def _weight(self, pl_module: LightningModule) -> Tensor:
        """The classifier, detached; all processes gather it if it is a DTensor."""
        try:
            head = pl_module.get_submodule(self.head)
        except AttributeError:
            names = ", ".join(name for name, _ in pl_module.named_children())
            raise ValueError(f"the module has no submodule {self.head!r}; its own are {names or 'none'}") from None
        if self.classifier is not None:
            return check_classifier(self.classifier(pl_module), name="classifier(module)").detach()
        if not isinstance(getattr(head, "weight", None), Tensor):
            raise ValueError(f"{self.head!r} ({type(head).__name__}) has no weight of shape (K, d); pass classifier=")
        return check_classifier(head.weight, name=f"{self.head}.weight").detach()

    def _fresh_metrics(self, W: Tensor, temperature: float | None) -> GeneralizedNeuralCollapse:
        """Metrics for this classifier; those of the last epoch are reused where they fit, since limits are costly."""
        shape = tuple(W.shape)
        metrics = self._metrics
        if metrics is None or (metrics.K, metrics.d) != shape or (metrics.temperature is None) != (temperature is None):
            metrics = GeneralizedNeuralCollapse(*shape, temperature=temperature, search=self.search)
        elif temperature is not None:  # it may have been annealed
            metrics.temperature = temperature
        self._metrics, self.limits = metrics, metrics.limits
        metrics.to(W.device)
        metrics.set_classifier(W)
        return metrics

    def _features_at_head(self, pl_module: LightningModule, batch: Any) -> tuple[Tensor, Tensor]:
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            raise ValueError(
                f"a batch must be a pair of inputs and labels, or pass features=; got {type(batch).__name__}"
            )

        def leave(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            raise _ReachedHeadError(args[0] if args else next(iter(named.values())))

        hook = pl_module.get_submodule(self.head).register_forward_pre_hook(leave, with_kwargs=True)
        try:
            pl_module(batch[0])
        except _ReachedHeadError as reached:
            return reached.args[0], batch[1]
        finally:
            hook.remove()
        raise ValueError(f"the module's forward never called its head {self.head!r}; pass features=")
