"""From the clips of a split to a trained network: what decides it, the network, what is watched, one training."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from helpers import config as configs
from helpers import runtime, training
from helpers.course import weights
from helpers.lip_reading import evaluation, metrics
from helpers.lip_reading.augment import Augmentation
from helpers.lip_reading.batches import Batches, Lips
from helpers.lip_reading.config import LipReadingConfig
from helpers.lip_reading.mini import scenes
from helpers.lip_reading.model import BUILDERS
from helpers.training import early_stop, loop
from helpers.workspace import StepResult

TRAIN = ("model", "batch_size", "lr", "epoch", "epoch_stop", "mixup", "label_smoothing", "precision", "seed")
TRAIN += tuple(field.name for field in dataclasses.fields(Augmentation))
PUBLISHED, JUDGE = "reader", "evaluation"  # name of the published weights, and what scores them
FEW_STEPS = 500  # with fewer, the averages of BatchNorm at momentum 0.99 never arrive


def build_network(config: LipReadingConfig, num_classes: int, *, steps: int = 0) -> keras.Model:
    """The network of a config: (B, T, H, W, C) float32 in [0, 1] -> logits (B, num_classes).

    Few `steps` of the whole training, if known, need a faster average in BatchNorm.
    """
    momentum = {"momentum": 0.9} if steps < FEW_STEPS else {}
    build = BUILDERS[config.model]
    return build(num_classes, config.channels_lips, config.size, config.len_video, **momentum)


def build_loss(config: LipReadingConfig) -> keras.losses.Loss:
    """What is made small: the cross-entropy of labels (B, num_classes) and logits."""
    return keras.losses.CategoricalCrossentropy(from_logits=True)


def batches_of(config: LipReadingConfig, lips: Lips, part: str | None = None) -> Batches:
    """Training batches."""
    rows = lips.rows("train", part)
    options = {name: getattr(config, name) for name in ("seed", "mixup", "label_smoothing")}
    options |= {"batch_size": min(config.batch_size, len(rows)), "augmentation": Augmentation.of(config), "rows": rows}
    return Batches(lips.clips, lips.labels, num_classes=len(lips.words), **options)


class Watch:
    """What is measured on the validation clips of one part (by default the first) at each epoch's end."""

    def __init__(self, network: keras.Model, lips: Lips, part: str | None = None) -> None:
        self.network, self.lips, self.rows = network, lips, lips.rows("validation", part)

    def __call__(self) -> dict[str, float]:
        """`validation_loss` (cross-entropy, nats) and `validation_accuracy`."""
        labels, scores = self.lips.labels[self.rows], evaluation.predict(self.network, self.lips.clips, self.rows)
        right = scores[np.arange(len(labels)), labels]
        loss, accuracy = float(-np.log(right + 1e-12).mean()), metrics.accuracy(labels, scores)
        return {"validation_loss": loss, "validation_accuracy": accuracy}


def train_one(config: LipReadingConfig, lips: Lips, part: str, folder: Path, *, remote: Any = None) -> pd.DataFrame:
    """Train one network in `folder`, or go on with it; returns the log, with the column part.

    `part` is the column of the sides, `remote` is for `training.fit`.
    """
    batches = batches_of(config, lips, part)
    runtime.set_seeds(config.seed)
    with training.strategy().scope():
        network = build_network(config, len(lips.words), steps=config.epoch * batches.steps_per_epoch)
        optimizer = keras.optimizers.Adam(config.lr)  # as the original's would be
        network.compile(optimizer, build_loss(config), metrics=["accuracy"])
        network.optimizer.build(network.trainable_variables)
    log = training.fit(
        network,
        lambda step: training.prefetch(batches.batch, step),
        run_dir=folder,
        epochs=config.epoch,
        steps_per_epoch=batches.steps_per_epoch,
        validation=Watch(network, lips, part),
        checkpoint_every=config.checkpoint_every,
        save_every=config.save_every,
        callbacks=[early_stop.EarlyStop(folder, patience=config.epoch_stop)],
        seed=config.seed,
        remote=remote,
        config=configs.values(config, TRAIN) | {"words": lips.words},
    )
    return log.assign(part=part)


def load_network(config: LipReadingConfig, lips: Lips, folder: Path, part: str | None = None) -> keras.Model:
    """The network of the best epoch of one part, from the folder that step `train` left."""
    network = build_network(config, len(lips.words))
    early_stop.load_best(network, folder / (part or lips.parts[0]))
    return network


def load_trained(config: LipReadingConfig, trained: StepResult) -> keras.Model:
    """What is published of a training: the network of the best epoch, or without early stopping of the last one."""
    folder, network = trained.folder / "split", build_network(config, len(scenes.WORDS))
    if config.epoch_stop:
        early_stop.load_best(network, folder)
    else:
        early_stop.load_weights(network, folder / loop.FINAL)
    return network


def load_published(config: LipReadingConfig | None = None) -> keras.Model:
    """The network of `notebooks/lip_reading/weights`, from clips to logits of `published_words`.

    The config says model and size; None is long.yaml. Raises as `helpers.course.weights.path`.
    """
    config = config or weights.settings("lip_reading")
    return weights.fill("lip_reading", build_network(config, len(scenes.WORDS)))


def published_words() -> list[str]:
    """The words that the published network reads, in the order of its outputs."""
    return sorted(scenes.WORDS)
