"""Training that can be killed at any moment: `fit` with exact resume, checkpoints, log, NaN stop and progress."""

import contextlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import keras
import pandas as pd
from tqdm import tqdm

from helpers.training import checkpoints, devices, preemption
from helpers.training.feed import Feed
from helpers.workspace import disk, packs

COLUMNS = ("time", "epoch", "step", "hours", "saved", "learning_rate", "steps_per_second")
FINAL = "final.weights.h5"
PROGRESS_LINES = 20
PROGRESS_SECONDS = 60


def fit(
    model: keras.Model,
    train_data: Callable[[int], Iterable],
    *,
    run_dir: str | os.PathLike,
    epochs: int,
    steps_per_epoch: int,
    validation: Callable[[], Mapping[str, float]] | None = None,
    checkpoint_every: int | None = None,
    save_every: int = 1,
    keep: int = checkpoints.KEEP,
    remote: Any = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Train, or go on where the last call in `run_dir` was stopped, killed or finished with fewer epochs.

    Killed at any moment and called again by the same code on the same machine, it ends with the bits of a run that was
    never killed. SIGTERM costs nothing, see `preemption`. On a GPU bits also need `tf.config.experimental.enable_op_determinism()`.
    Layers need names of their own: TensorFlow adds up gradients in an order that follows names, and the numbers that Keras gives
    depend on what was built before.
    Random layers must own their `keras.random.SeedGenerator` (Keras's do). What is not restored: memory of `callbacks`
    (the patience of EarlyStopping), and, under `MirroredStrategy`, what differs between replicas (BatchNorm, dropout).

    Args:
        model: built and compiled with an optimiser.
        train_data: `train_data(start_step)` gives the batches `(x, y)` of steps start_step, start_step + 1, ...: a
            generator of NumPy arrays (see `prefetch`) or a `tf.data.Dataset`. A batch depends on (seed, step) alone.
            With several processes each of them yields the whole global batch and `fit` takes this process's share.
        run_dir: gets `checkpoints/`, `log.csv`, `log.jsonl`, `config.json` and `final.weights.h5`.
        validation: called at each epoch's end; its numbers join the log row and are seen by `callbacks`.
        checkpoint_every: also save every so many steps; None saves at epoch ends only.
        save_every: save every so many epochs; the last one is always saved.
        keep: how many of the newest states stay on disk.
        remote: None, or an object with `row(mapping)` and `upload(path)`; nothing that it raises stops training.
        seed: seeds Python, NumPy and Keras; a state of another seed is refused.
        config: JSON-able, written to `config.json` beside the log.

    Returns:
        The log, one row per epoch: time (UTC), epoch (from 1), step, hours, saved, loss and metrics, validation
        numbers, learning_rate, steps_per_second.

    Raises:
        ValueError: bad arguments, or `run_dir` holds the states of another model, seed or steps_per_epoch.
        RuntimeError: the loss or a weight became NaN or infinite; no such state is saved.
    """
    _check_arguments(model, epochs, steps_per_epoch, checkpoint_every, save_every, keep)
    keras.utils.set_random_seed(seed)
    identity = {"seed": seed, "steps_per_epoch": steps_per_epoch}
    run = _Run(model, Path(run_dir), identity, epochs, checkpoint_every, save_every, keep, remote)
    run.say(devices.device_line(model))
    if run.restore():
        run.say(f"finished before: {run.step} steps, nothing to train; raise epochs to go on")
        with checkpoints.scope(model):
            model.optimizer.finalize_variable_values(model.trainable_variables)  # as Keras's fit does at its end
    else:
        run.begin(config)
        watch = keras.callbacks.LambdaCallback(on_epoch_end=partial(run.validate, validation))
        seen_by = [watch, *callbacks, run]  # all see watch's numbers; run saves what the others changed
        with run.preemption.watching():
            _train(run, train_data, seen_by)
    run.finish()
    return pd.DataFrame(run.rows)


def _train(run: "_Run", train_data: Callable[[int], Iterable], callbacks: list[keras.callbacks.Callback]) -> None:
    for first, last, steps in _parts(run.step, run.epochs, run.steps_per_epoch):
        feed = Feed(run.model, train_data, run.step, last * run.steps_per_epoch)
        with contextlib.closing(feed):
            # The variables of the metrics, so that they can be restored before the first step. Keras would make them within fit,
            # under a strategy with a batch from an iterator that it then opens anew: that batch, and those fetched ahead, would
            # be lost. It has no public name for this.
            with checkpoints.scope(run.model):
                run.model._symbolic_build(data_batch=feed.example)
            options = {"callbacks": callbacks, "shuffle": False, "verbose": 0}
            try:
                run.model.fit(feed.data, initial_epoch=first, epochs=last, steps_per_epoch=steps, **options)
            except Exception:
                if feed.error:  # TensorFlow wraps it in pages of its own
                    raise feed.error from None
                raise
        if run.stopped:
            return
        if run.raw is not None:  # Keras ends each call of fit with moving averages (`use_ema`) in place of the weights
            checkpoints.assign(run.model, run.raw)
            run.raw = None


def _parts(step: int, epochs: int, steps_per_epoch: int) -> Iterator[tuple[int, int, int]]:
    """(first epoch, end, steps per epoch) per call of Keras's fit: the rest of a broken epoch, then whole ones."""
    epoch, done = divmod(step, steps_per_epoch)
    if done:
        yield epoch, epoch + 1, steps_per_epoch - done
        epoch += 1
    if epoch < epochs:
        yield epoch, epochs, steps_per_epoch


def _check_arguments(model, epochs, steps_per_epoch, checkpoint_every, save_every, keep) -> None:
    counts = {"epochs": epochs, "steps_per_epoch": steps_per_epoch, "save_every": save_every, "keep": keep}
    counts |= {} if checkpoint_every is None else {"checkpoint_every": checkpoint_every}
    wrong = {key: n for key, n in counts.items() if not isinstance(n, int) or isinstance(n, bool) or n < 1}
    problems = [f"{name} must be an int of at least 1, received {n!r}" for name, n in wrong.items()]
    if not (model.built and model.compiled and model.optimizer):
        problems.append("the model must be built (called on a batch) and compiled with an optimizer")
    elif not problems and steps_per_epoch % (at_once := model.steps_per_execution):
        multiple = f"a multiple of the model's steps_per_execution ({at_once})"
        problems.append(f"steps_per_epoch must be {multiple}, received {steps_per_epoch}")
    if problems:
        raise ValueError("; ".join(problems))


def _check_identity(info: Mapping, identity: Mapping, run_dir: Path) -> None:
    changed = [f"{key} was {info[key]}, now {value}" for key, value in identity.items() if info[key] != value]
    if changed:
        raise ValueError(
            f"{run_dir} holds a run with other settings: {'; '.join(changed)}. It cannot be continued exactly: "
            "use the old values, choose another run_dir, or delete that folder."
        )


class _Run(keras.callbacks.Callback):
    """State of one call of `fit`, and the callback that saves, logs, prints and stops."""

    def __init__(self, model, run_dir: Path, identity: dict, epochs, checkpoint_every, save_every, keep, remote):
        super().__init__()
        self.set_model(model)
        self.run_dir, self.folder, self.identity = run_dir, run_dir / "checkpoints", identity
        self.epochs, self.steps_per_epoch = epochs, identity["steps_per_epoch"]
        self.checkpoint_every, self.save_every, self.keep, self.remote = checkpoint_every, save_every, keep, remote
        self.step, self.epoch, self.hours_before, self.stopped = 0, 0, 0.0, False
        self.rows: list[dict[str, Any]] = []
        self.source: Path | None = None  # the state whose running metrics are still to be restored
        self.raw: checkpoints.Arrays | None = None
        self.index = devices.processes()[0]
        self.preemption = preemption.Preemption()
        self.started = self.spoken = time.perf_counter()

    def say(self, line: str) -> None:
        if self.index == 0:
            print(line, flush=True)

    # --- start and end ---

    def restore(self) -> bool:
        """Load the newest sound state and its log rows; True if there is nothing left to train."""
        with checkpoints.scope(self.model):
            if not self.model.optimizer.built:  # else its state would be dropped in silence
                self.model.optimizer.build(self.model.trainable_variables)
        newest = checkpoints.read_newest(self.folder)
        finished = False
        if newest:
            info, self.source = newest
            _check_identity(info, self.identity, self.run_dir)
            checkpoints.assign(self.model, checkpoints.read_arrays(self.source, self.model))
            self.step, self.hours_before = info["step"], info["hours"]
            finished = self.step >= self.epochs * self.steps_per_epoch or info["stopped_at"] >= self.epochs
            rows = [row for row in checkpoints.read_log(self.run_dir) if row["step"] <= self.step]
            self.rows = [row for row in rows if finished or row["step"] % self.steps_per_epoch == 0]
        devices.agree(self.step if newest else -1)
        return finished

    def begin(self, config: Mapping[str, Any] | None) -> None:
        """Clear what a kill left, write the config, and save step 0, so that even an unseeded model resumes exactly."""
        if self.index == 0:
            for pattern in ("checkpoints/.state-*", ".final-*", ".log-*"):
                for leftover in self.run_dir.glob(pattern):
                    leftover.unlink(missing_ok=True)
            if config is not None:
                disk.write_json(self.run_dir / "config.json", dict(config))
        if self.source:
            self.say(f"resumed at step {self.step} (epoch {self.step // self.steps_per_epoch + 1})")
        else:
            self.save()
        self.first_step, self.started, self.spoken = self.step, *[time.perf_counter()] * 2

    def finish(self) -> None:
        """Write the log and the final weights, unless those of this step are there."""
        path = self.run_dir / FINAL
        if _final_step(path) != self.step:
            # All processes take part: Keras's save_weights hangs when one of several calls it alone.
            with disk.atomic_path(path, room=checkpoints.room_for(self.model)) as target:
                self.model.save_weights(target)
                with h5py.File(target, "a") as file:
                    file.attrs["step"] = self.step
            self.write_log()
            self.remotely("upload", path)
            self.remotely("upload", self.run_dir / "log.csv")
        devices.wait("final weights")

    # --- called by Keras ---

    def validate(self, validation: Callable[[], Mapping[str, float]] | None, epoch: int, logs: dict) -> None:
        """Add the numbers of `validation`, which each of several processes computes alone, to the logs."""
        self.stop_watch()
        with devices.alone(self.model):
            numbers = {name: float(value) for name, value in validation().items()} if validation else {}
        numbers = devices.of_first(numbers)
        if taken := sorted(numbers.keys() & (logs.keys() | set(COLUMNS))):
            raise ValueError(f"validation returned names that the log uses already: {taken}; rename them")
        logs.update(numbers)

    def on_epoch_begin(self, epoch, logs=None):
        if self.source and self.step % self.steps_per_epoch:  # after Keras reset them
            checkpoints.assign(self.model, checkpoints.read_arrays(self.source, self.model, ["metrics"]))
        self.source = None
        self.epoch, self.epoch_step, self.epoch_started = epoch, self.step, time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        before, self.step = self.step, self.epoch_step + batch + 1
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise self.failure(f"the loss became {loss}")
        ending = self.preemption.due(self.step)
        if (self.due(before) or ending) and self.step % self.steps_per_epoch:
            self.save(ending=ending)
        if time.perf_counter() - self.spoken >= PROGRESS_SECONDS:
            done = self.step - self.epoch * self.steps_per_epoch
            self.report(f"step {done}/{self.steps_per_epoch}  ", {"loss": loss})
        self.stop_watch()

    def on_epoch_end(self, epoch, logs=None):
        # The row comes first: a kill between the two writes then drops and repeats the epoch instead of losing its row.
        self.stopped = self.model.stop_training
        if self.step != (epoch + 1) * self.steps_per_epoch and not self.stopped:
            raise RuntimeError(f"epoch {epoch + 1} ended at step {self.step}: train_data must not end while it is read")
        last = epoch + 1 == self.epochs or self.stopped
        whole = (epoch + 1) % self.save_every == 0 or last
        ending = self.preemption.due(self.step)
        arrays = self.checked() if whole or ending or self.due(self.step - 1) else None
        self.rows.append(self.row(epoch, logs, saved=arrays is not None))
        self.write_log()
        self.remotely("row", {"run": self.run_dir.name} | self.rows[-1])
        if arrays is not None:
            path = self.save(arrays, stopped_at=self.epochs if self.stopped else 0, ending=ending)
            if last or (self.save_every > 1 and whole):
                self.remotely("upload", path)
        if self.params["epochs"] < self.epochs:  # a second call of Keras's fit follows
            self.raw = arrays or checkpoints.capture(self.model)
        if last or (epoch + 1) % math.ceil(self.epochs / PROGRESS_LINES) == 0:
            self.report("", logs)

    # --- the parts of these ---

    def due(self, before: int) -> bool:
        """Whether a multiple of `checkpoint_every` lies in (before, step]."""
        every = self.checkpoint_every
        return every is not None and self.step // every > before // every

    def stop_watch(self) -> None:
        """Time of the training steps of this epoch, without what validation and saving take after them."""
        self.seconds = time.perf_counter() - self.epoch_started

    def hours(self) -> float:
        return self.hours_before + (time.perf_counter() - self.started) / 3600

    def row(self, epoch: int, logs: Mapping[str, float], *, saved: bool) -> dict[str, Any]:
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        speed = (self.step - self.epoch_step) / self.seconds
        numbers = {**_loss_first(logs), "learning_rate": rate, "steps_per_second": speed}
        return {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "epoch": epoch + 1,
            "step": self.step,
            "hours": self.hours(),
            "saved": saved,
            **{name: value if math.isfinite(value) else math.nan for name, value in numbers.items()},
        }

    def checked(self) -> checkpoints.Arrays:
        """Values of all variables, with the running metrics within an epoch; an error if a weight is not finite."""
        inside = self.step % self.steps_per_epoch != 0
        arrays = checkpoints.capture(self.model, (*checkpoints.WEIGHTS, "metrics") if inside else checkpoints.WEIGHTS)
        if bad := checkpoints.first_non_finite(self.model, arrays):
            raise self.failure(f"the variable {bad} holds NaN or infinity")
        return arrays

    def save(self, arrays: dict | None = None, *, stopped_at: int = 0, ending: bool = False) -> Path | None:
        """Write a state; with `ending` the process then ends, and what outlives the machine gets it first."""
        arrays = arrays or self.checked()
        info = {"step": self.step, "hours": self.hours(), "stopped_at": stopped_at, **self.identity}
        path = None
        if self.index == 0:
            path = checkpoints.save(self.folder, self.model, arrays, info=info, keep=self.keep)
            if ending:
                self.preemption.late = f"step {self.step} is saved here; its pack was not finished"
            packs.checkpoint(now=ending)
        devices.wait(f"state {self.step}")
        if ending:
            self.preemption.end(f"SIGTERM: step {self.step} is saved; the same call goes on from there")
        return path

    def failure(self, what: str) -> RuntimeError:
        if self.step == 0:
            return RuntimeError(f"{what} before the first step: look at the weights that training starts from")
        good = next((path.name for path in checkpoints.states(self.folder)), "none")
        return RuntimeError(
            f"{what} at step {self.step} (epoch {self.epoch + 1}); last good checkpoint: {good}. Try a lower learning "
            f"rate, clipnorm=1.0 in the optimizer, or look for NaN in the batch of step {self.step - 1}. "
            "A changed setting needs another run_dir, or this one deleted."
        )

    def write_log(self) -> None:
        """Both files whole and atomically: a kill in the middle of a row leaves the rows before it."""
        if self.index == 0:
            clean = [{k: None if v != v else v for k, v in row.items()} for row in self.rows]
            with disk.atomic_write(self.run_dir / "log.jsonl", "w") as file:
                file.writelines(json.dumps(row) + "\n" for row in clean)
            disk.write_table(self.run_dir / "log.csv", pd.DataFrame(self.rows))

    def report(self, place: str, logs: Mapping[str, float]) -> None:
        self.spoken = time.perf_counter()
        speed = (self.step - self.first_step) / (self.spoken - self.started)
        clock = tqdm.format_interval((self.epochs * self.steps_per_epoch - self.step) / speed)
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in itertools.islice(_loss_first(logs).items(), 5))
        self.say(f"epoch {self.epoch + 1}/{self.epochs}  {place}{numbers}  {speed:.3g} steps/s  {clock} left")

    def remotely(self, method: str, argument: Any) -> None:
        if self.remote is None or self.index:
            return
        try:
            getattr(self.remote, method)(argument)
        except Exception as error:  # whatever a service does, training goes on: everything is in run_dir
            self.say(f"remote {method} failed, training goes on: {type(error).__name__}: {error}")


def _loss_first(logs: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(logs.items(), key=lambda item: item[0] != "loss"))


def _final_step(path: Path) -> int | None:
    """Step of the final weights on disk; None if there are none, or damaged ones."""
    with contextlib.suppress(OSError, KeyError), h5py.File(path) as file:
        return int(file.attrs["step"])
    return None
