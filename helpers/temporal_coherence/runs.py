"""One training: a config's network and optimiser, its batches, and what is watched while it runs.

Fine-tuning with few labels, and its learning rate, stand in `evaluation`.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from helpers import config as configs
from helpers import runtime, training
from helpers.course import weights
from helpers.temporal_coherence import metrics, model
from helpers.temporal_coherence.batches import Frames, build_batches, watch_pairs
from helpers.temporal_coherence.config import TemporalCoherenceConfig
from helpers.temporal_coherence.losses import build_loss
from helpers.temporal_coherence.model import build_trunk
from helpers.training import checkpoints
from helpers.workspace import StepResult, disk

TRAIN = (
    *("variant", "embedding_dim", "normalize", "loss", "compare", "margin", "temperature", "negatives", "inputs"),
    *("positives", "augment", "optimizer", "learning_rate", "schedule", "batch_size", "epochs", "precision", "seed"),
)
PUBLISHED, JUDGE = "trunk", "evaluation"  # name of the published weights, and what scores them
Rate = float | keras.optimizers.schedules.LearningRateSchedule


def build_network(
    config: TemporalCoherenceConfig, loss: str, *, total_steps: int = 1, num_classes: int = 1
) -> tuple[keras.Model, keras.Model]:
    """The siamese network of a config, compiled, and its trunk; the same seed gives the same first weights for every loss.

    Args:
        total_steps: length of the training, for the schedule.
        num_classes: for the loss "labels", whose network is a classifier.
    """
    runtime.set_seeds(config.seed)
    with training.strategy().scope():
        trunk = build_trunk(config.variant, config.embedding_dim, config.size)
        if loss == "labels":
            network = model.build_classifier(trunk, num_classes)
        else:
            views = 4 if loss == "quadruplet" else 2
            network = model.build_siamese(trunk, views=views, normalize=config.normalize)
        rate = build_schedule(config.schedule, config.learning_rate, total_steps)
        network.compile(build_optimizer(config.optimizer, rate), build_loss(loss, config.margin, config.temperature))
    return network, trunk


def load_trunk(config: TemporalCoherenceConfig, trained: StepResult | None = None, run: str = "") -> keras.Model:
    """The trunk with its first weights, or with those that a run of step train left."""
    trunk = build_network(config, "contrastive")[1]
    if trained is not None:
        trunk.load_weights(trained.folder / run / "trunk.weights.h5")
    return trunk


def embed(network: keras.Model, frames: Frames, paths: list[str], *, normalize: bool, batch: int = 64) -> np.ndarray:
    """Outputs of a network for frames: (N, D) float32, scaled to length 1 if `normalize`; a frame named twice is computed once."""
    names, index = np.unique(paths, return_inverse=True)
    parts = []
    for start in range(0, len(names), batch):
        x = frames.stack(names[start : start + batch].tolist())
        # Not `predict`, which takes a thread and a loop for each call. Every replica of a strategy gives all rows.
        parts.append(np.asarray(network.predict_on_batch(x), dtype=np.float32)[: len(x)])
    features = np.concatenate(parts)[index]
    if normalize:
        features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return features


def build_optimizer(name: str, rate: Rate) -> keras.optimizers.Optimizer:
    """SGD with momentum 0.9 ("sgd") or Adam, gradients clipped to a global norm of 5."""
    if name == "adam":
        return keras.optimizers.Adam(rate, global_clipnorm=5.0)
    return keras.optimizers.SGD(rate, momentum=0.9, global_clipnorm=5.0)


def build_schedule(name: str, rate: float, total_steps: int) -> Rate:
    """The learning rate: a number ("constant"), or a Keras schedule of the step that begins with it.

    "steps" divides by 10 at one and two thirds of the training. "thesis" is 1 / (1 + 0.1 t), which is what the thesis's
    `decay=0.1` means in Keras 2, counted in steps: after one epoch nothing is left of the rate.
    """
    if name == "steps":
        ends = [total_steps // 3, 2 * total_steps // 3]
        return keras.optimizers.schedules.PiecewiseConstantDecay(ends, [rate, rate / 10, rate / 100])
    if name == "thesis":
        return keras.optimizers.schedules.InverseTimeDecay(rate, 1, 0.1)
    return rate


class Watch:
    """Called at each epoch's end, on pairs of validation clips: are neighbours nearer than strangers, is anything collapsing?"""

    def __init__(
        self, trunk: keras.Model, pairs: pd.DataFrame, frames: Frames, *, normalize: bool, margin: float, seed: int
    ) -> None:
        self.trunk, self.frames, self.normalize, self.margin = trunk, frames, normalize, margin
        self.paths, self.same = watch_pairs(pairs, seed=seed)

    def __call__(self) -> dict[str, float]:
        """Pair-AUC, mean distances, share of negative pairs inside the margin, and `metrics.collapse_monitors`."""
        flat = [path for pair in self.paths for path in pair]
        features = embed(self.trunk, self.frames, flat, normalize=self.normalize)
        distances = np.linalg.norm(features[0::2] - features[1::2], axis=1)
        positive, negative = distances[self.same == 1], distances[self.same == 0]
        return {
            "pair_auc": metrics.pair_auc(distances, self.same),
            "positive_distance": float(positive.mean()),
            "negative_distance": float(negative.mean()),
            "active_hinge": float((negative < self.margin).mean()),
            **metrics.collapse_monitors(features[0::2]),
        }


def train_one(
    config: TemporalCoherenceConfig, loss: str, pairs: pd.DataFrame, frames: Frames, folder: Path, *, remote: Any = None
) -> dict:
    """Train one network in `folder/<loss>`, or go on with it; leaves `trunk.weights.h5` there and returns its last row.

    Args:
        pairs: the table of pairs of all sides.
        remote: see `training.fit`.
    """
    sides = dict(list(pairs.groupby("split")))
    options = {name: getattr(config, name) for name in ("negatives", "positives", "augment", "batch_size", "seed")}
    batches = build_batches(loss, sides["train"], frames, everything=pairs, **options)
    length, classes = config.epochs * batches.steps_per_epoch, int(pairs["label"].max()) + 1
    network, trunk = build_network(config, loss, total_steps=length, num_classes=classes)
    watched = {name: getattr(config, name) for name in ("normalize", "margin", "seed")}
    saving = {name: getattr(config, name) for name in ("epochs", "checkpoint_every", "save_every", "seed")}
    log = training.fit(
        network,
        lambda step: training.prefetch(batches.batch, step),
        run_dir=folder / loss,
        steps_per_epoch=batches.steps_per_epoch,
        validation=Watch(trunk, sides.get("validation", sides["train"]), frames, **watched),
        remote=remote,
        config=configs.values(config, TRAIN) | {"loss": loss},
        **saving,
    )
    with disk.atomic_path(folder / loss / "trunk.weights.h5", room=checkpoints.room_for(trunk)) as temporary:
        trunk.save_weights(temporary)
    return {"run": loss, "pairs_seen": batches.batch_size * int(log["step"].iloc[-1])} | log.iloc[-1].to_dict()


def load_trained(config: TemporalCoherenceConfig, trained: StepResult) -> keras.Model:
    """What is published of a training: the trunk of its main loss."""
    return load_trunk(config, trained, config.loss)


def load_published(config: TemporalCoherenceConfig | None = None) -> keras.Model:
    """The trunk with the weights of `notebooks/temporal_coherence/weights`, from pictures to embeddings; see `embed`.

    The config says variant and size; None is long.yaml. Raises as `helpers.course.weights.path`.
    """
    config = config or weights.settings("temporal_coherence")
    return weights.fill("temporal_coherence", build_trunk(config.variant, config.embedding_dim, config.size))
