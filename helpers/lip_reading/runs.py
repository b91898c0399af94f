"""From the clips of a split to a trained network: what is trained on, the network, and one training."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import runtime, training
from helpers.lip_reading import early_stop, evaluation
from helpers.lip_reading.augment import Augmentation
from helpers.lip_reading.batches import Batches
from helpers.lip_reading.model import BUILDERS

AUGMENTATION = tuple(field.name for field in dataclasses.fields(Augmentation))
TRAIN = (
    *("model", "batch_size", "lr", "epoch", "epoch_stop", "mixup", "label_smoothing", "precision", "seed"),
    *AUGMENTATION,
)
FEW_STEPS = 500  # with fewer, the averages of BatchNorm at momentum 0.99 never arrive


@dataclasses.dataclass(frozen=True)
class Lips:
    """All clips of a split, ready for a network.

    Attributes:
        table: one row a clip: path, label, speaker, number (of the word), and its sides.
        clips: (N, T, H, W, C) uint8, mapped from the disk.
        words: the classes in order.
        parts: columns of the table that hold the sides, one or one per part of a cross-validation.
    """

    table: pd.DataFrame
    clips: np.ndarray
    words: list[str]
    parts: list[str]

    @property
    def labels(self) -> np.ndarray:
        """(N,) class numbers."""
        return self.table["number"].to_numpy()

    def rows(self, side: str, part: str | None = None) -> np.ndarray:
        """Numbers of the clips of one side."""
        return np.flatnonzero(self.table[part or self.parts[0]] == side)


def build_network(config, num_classes: int, *, steps: int = 0):
    """The network of a config, compiled as the original's would be: Adam at a constant rate.

    Args:
        num_classes: number of words.
        steps: of the whole training, if known: few of them need a faster average in BatchNorm.
    """
    import keras

    momentum = {"momentum": 0.9} if steps < FEW_STEPS else {}
    with training.strategy().scope():
        build = BUILDERS[config.model]
        network = build(num_classes, config.channels_lips, config.size, config.len_video, **momentum)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        network.compile(keras.optimizers.Adam(config.lr), loss, metrics=["accuracy"])
        network.optimizer.build(network.trainable_variables)
    return network


def batches_of(config, lips: Lips, part: str | None = None) -> Batches:
    """Training batches."""
    rows = lips.rows("train", part)
    return Batches(
        lips.clips,
        lips.labels,
        num_classes=len(lips.words),
        batch_size=min(config.batch_size, len(rows)),
        seed=config.seed,
        augmentation=Augmentation.of(config),
        mixup=config.mixup,
        label_smoothing=config.label_smoothing,
        rows=rows,
    )


def train_one(config, lips: Lips, part: str, folder: Path, *, remote=None) -> pd.DataFrame:
    """Train one network in `folder`, or go on with it; returns its log."""
    batches = batches_of(config, lips, part)
    runtime.set_seeds(config.seed)
    network = build_network(config, len(lips.words), steps=config.epoch * batches.steps_per_epoch)
    watched = lips.rows("val", part)
    log = training.fit(
        network,
        lambda step: training.prefetch(batches.batch, step),
        run_dir=folder,
        epochs=config.epoch,
        steps_per_epoch=batches.steps_per_epoch,
        validation=lambda: evaluation.watch(network, lips.clips, lips.labels, watched),
        checkpoint_every=config.checkpoint_every,
        save_every=config.save_every,
        callbacks=[early_stop.EarlyStop(folder, patience=config.epoch_stop)],
        seed=config.seed,
        remote=remote,
        config={name: getattr(config, name) for name in TRAIN} | {"words": lips.words},
    )
    return log.assign(part=part)
