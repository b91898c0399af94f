"""Early stopping as a callback of `fit`, exact after a kill: its memory is the log on disk, its result the best epoch's weights."""

import contextlib
import json
import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import h5py
import keras
import numpy as np

from helpers.training import checkpoints, devices
from helpers.workspace import disk

BEST = "best-{:05d}.weights.h5"  # by epoch; the one before stays until the states on disk are past the best


def best_epoch(values: Sequence[float]) -> int:
    """Number, from 1, of the first epoch with the highest value; 0 if there is none. Equal is not better, NaN never is."""
    return 0 if np.isnan(values).all() else int(np.nanargmax(values)) + 1


class EarlyStop(keras.callbacks.Callback):
    """Stop when the watched number has not grown for `patience` epochs, and keep the weights of the best epoch.

    The weights stand in `<run_dir>/best-<epoch>.weights.h5`, see `load_best`. `fit` restores no memory of callbacks, so each start
    reads its own log up to the epoch that it resumes at, and drops weights of an epoch that a kill undid.

    Args:
        run_dir: the one that `fit` is given.
        patience: epochs without a higher value after which to stop (OpenAV's `epoch_stop`); 0 never stops.
        monitor: a number that `validation` returns, higher is better; ValueError at the end of an epoch without it.
    """

    def __init__(self, run_dir: str | os.PathLike, *, patience: int, monitor: str = "validation_accuracy") -> None:
        super().__init__()
        if not isinstance(patience, int) or isinstance(patience, bool) or patience < 0:
            raise ValueError(f"patience must be an int of at least 0 (0: never stop). Received: patience={patience!r}")
        self.run_dir, self.patience, self.monitor = Path(run_dir), patience, monitor
        self.values: list[float] | None = None
        self.first = devices.processes()[0] == 0

    def on_epoch_begin(self, epoch, logs=None):
        if self.values is None or len(self.values) != epoch:  # the start of a call of `fit`
            rows = {row["epoch"]: row for row in checkpoints.read_log(self.run_dir)}
            self.values = [rows.get(number, {}).get(self.monitor, math.nan) for number in range(1, epoch + 1)]
            for number, path in best_files(self.run_dir).items() if self.first else ():
                if number > epoch:
                    path.unlink()

    def on_epoch_end(self, epoch, logs=None):
        if self.monitor not in (logs or {}):
            raise ValueError(
                f"EarlyStop watches {self.monitor!r}. Received: {sorted(logs or {})}; "
                "let the `validation` of fit return it, or choose another monitor"
            )
        before = best_epoch(self.values)
        self.values.append(float(logs[self.monitor]))
        best = best_epoch(self.values)
        if best > before:
            self._save(best)
        if self.patience and len(self.values) - best >= self.patience:
            self.model.stop_training = True
            if self.first:
                value = f", {self.values[best - 1]:.4g} in epoch {best}" if best else ""
                print(f"{self.monitor} has not grown for {self.patience} epochs: stopped; best{value}", flush=True)

    def on_train_end(self, logs=None):
        if self.first:
            self._drop_surpassed()

    def _save(self, epoch: int) -> None:
        """Write the weights of `epoch`. All processes take part: Keras's save_weights hangs when one alone calls it."""
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()  # within an epoch the JAX trainer keeps the values outside the variables
        with disk.atomic_path(self.run_dir / BEST.format(epoch), room=checkpoints.room_for(self.model)) as path:
            self.model.save_weights(path)
        if self.first:
            self._drop_surpassed()

    def _drop_surpassed(self) -> None:
        """Keep the best weights of the epochs that the newest state holds, and those after: training may come back to either."""
        files, saved = best_files(self.run_dir), self._saved_epochs()
        for number in [number for number in files if number <= saved][:-1]:
            files[number].unlink()

    def _saved_epochs(self) -> int:
        """Whole epochs that the newest state of `fit` holds."""
        for path in checkpoints.states(self.run_dir / "checkpoints")[:1]:
            with contextlib.suppress(OSError), h5py.File(path) as file:
                info = json.loads(file.attrs["info"])
                return info["step"] // info["steps_per_epoch"]
        return 0


def best_files(run_dir: str | os.PathLike) -> dict[int, Path]:
    """The weights that `EarlyStop` keeps by their epochs, the best ones last."""
    paths = sorted(Path(run_dir).glob("best-*.weights.h5"))
    return {int(path.name.removeprefix("best-").split(".")[0]): path for path in paths}


def load_best(model: keras.Model, run_dir: str | os.PathLike) -> int:
    """Load the weights of the best epoch into `model`; returns its number, from 1.

    FileNotFoundError: no epoch has ended yet, or none gave a number.
    """
    files = best_files(run_dir)
    if not files:
        raise FileNotFoundError(f"no best weights in {run_dir}: train with EarlyStop among the callbacks first")
    load_weights(model, files[max(files)])
    return max(files)


def load_weights(model: keras.Model, path: Path) -> None:
    """Load a file that holds the optimizer, too, which a fresh model has no use for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
        model.load_weights(path)
