"""The callback that leaves what Darknet leaves of a training: its log, line by line, and its backup weights.

A line's form, written and read, stands in `logs`.
"""

import os
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from helpers.boat_detection import losses
from helpers.boat_detection.formats.darknet import keras_weights, logs
from helpers.boat_detection.formats.darknet.cfg_files import Cfg
from helpers.training import checkpoints, devices
from helpers.workspace import disk


class TrainLog(keras.callbacks.Callback):
    """Writes `train.log` and `backup/*.weights` while `helpers.training.fit` trains a `Detector`, a step at a time.

    The log is in the format of AlexeyAB's Darknet: one line per head and mini-batch, then one per update of the weights, whose
    loss is the mean of the lines before it. Killed at any moment, `fit` called again cuts the log after the state that it
    restores; but for the times the lines are those of a run that nobody killed.

    The weights are called as the .cfg file: `<name>_last.weights` is rewritten every so many updates, `<name>_final.weights` is
    written when the last epoch ends, with the moving averages where the optimiser keeps some.

    Args:
        run_dir: as of `fit`.
        cfg: of the network; gives its name, the numbers of the heads, and `max_batches` for the hours that are left.
        batch_size: images of one update: the mini-batches that `fit` is given times the optimiser's accumulation steps.
        every: updates between two backups.
    """

    def __init__(self, run_dir: str | os.PathLike, cfg: Cfg, *, batch_size: int, every: int = 100) -> None:
        super().__init__()
        self.path, self.backup = Path(run_dir) / "train.log", Path(run_dir) / "backup"
        self.cfg, self.batch_size, self.every = cfg, batch_size, every
        self.totals: list[float] = []  # total_loss of the lines since the last update, as printed
        self.average: float | None = None  # as printed
        self.final_seen = -1  # images seen when the final weights were written

    # --- called by Keras ---

    def on_train_begin(self, logs: dict | None = None) -> None:
        optimizer = self.model.optimizer
        self.optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
        self.subdivisions = self.optimizer.gradient_accumulation_steps or 1
        self.writes = devices.processes()[0] == 0
        self._resume(int(_read(self.model.seen)) * self.subdivisions // self.batch_size)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.clock = time.perf_counter()

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if (self.step + 1) % self.subdivisions == 0:
            self.rate = float(_read(self.model.optimizer.learning_rate))

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()  # the JAX trainer keeps the values outside the variables
        sums = _read(self.model.region_report.step)
        self.step += 1
        lines = self._region_lines(sums)
        iteration, rest = divmod(self.step, self.subdivisions)
        if rest == 0:
            lines.append(self._iteration_line(iteration))
        if self.writes:
            with disk.explain_disk_errors(self.path), self.path.open("a", encoding="utf-8", newline="\n") as file:
                file.write("".join(line + "\n" for line in lines))
            if rest == 0 and iteration % self.every == 0:
                self._save("last")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        # Before `fit` saves its last state: killed after that, it would find nothing to do and call nobody.
        if epoch + 1 == self.params["epochs"] or self.model.stop_training:
            self._save_final()

    def on_train_end(self, logs: dict | None = None) -> None:
        self._save_final()

    # --- the parts of these ---

    @property
    def seen(self) -> int:
        """Images of the steps that are done."""
        return self.step * self.batch_size // self.subdivisions

    def _resume(self, step: int) -> None:
        """Cut the log after `step` mini-batches and read from it what the lines to come build on."""
        self.step, self.average = step, None
        iteration, rest = divmod(step, self.subdivisions)
        kept, pending = [], []
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        for line in text.split("\n")[:-1]:  # what stands after the last end of a line is torn
            pending.append(line)
            number = logs.ITERATION.search(line)
            if number and int(number[1]) <= iteration:
                kept, pending, self.average = kept + pending, [], float(number[3])
        pending = [line for line in pending if logs.REGION.search(line)][: rest * len(self.cfg.yolo)]
        self.totals = [_total_loss(line) for line in pending]
        if self.writes:
            with disk.atomic_write(self.path, "w") as file:
                file.writelines(line + "\n" for line in kept + pending)

    def _region_lines(self, sums: np.ndarray) -> list[str]:
        loss = self.model.yolo_loss
        rows = losses.report_rows(sums, dialect=loss.dialect)
        options = {"loss": loss.coordinates, "iou_normalizer": loss.iou_normalizer}
        lines = [logs.format_region(head.index, row, **options) for head, row in zip(self.cfg.yolo, rows, strict=True)]
        self.totals += [_total_loss(line) for line in lines]
        return lines

    def _iteration_line(self, iteration: int) -> str:
        """From numbers as they are printed, so that the lines after a resume come out the same."""
        loss = sum(self.totals) / len(self.totals)
        average = loss if self.average is None else 0.9 * self.average + 0.1 * loss
        now = time.perf_counter()
        seconds, self.clock, self.totals = now - self.clock, now, []
        left = max(0, self.cfg.net.get("max_batches", 0) - iteration) * seconds / 3600
        line = logs.format_iteration(iteration, loss, average, self.rate, seconds, self.seen, hours_left=left)
        self.average = float(logs.ITERATION.search(line)[3])
        return line

    def _save(self, which: str) -> None:
        path = self.backup / f"{Path(self.cfg.source).stem}_{which}.weights"
        if keras_weights.has_numbers(self.model.network):  # else it is no network of a .cfg file
            keras_weights.save_weights(self.model.network, path, seen=self.seen)

    def _save_final(self) -> None:
        if self.final_seen == self.seen:
            return
        raw = checkpoints.capture(self.model, ["model"]) if self.optimizer.use_ema else None
        if raw:
            with checkpoints.scope(self.model):
                self.optimizer.finalize_variable_values(self.model.trainable_variables)
        if self.writes:
            self._save("final")
        if raw:  # `fit` still has to save the weights themselves
            checkpoints.assign(self.model, raw)
        self.final_seen = self.seen


def _read(value: Any) -> np.ndarray:
    # By way of a tensor, because a variable of several replicas must be summed before it can be read.
    return keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(value))


def _total_loss(line: str) -> float:
    """Of a Region line, as printed."""
    return float(logs.REGION_VALUES["total_loss"].search(line)[1])
