"""From the config to a trained network: what decides a training, its network, its optimiser and rate, how it is watched."""

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from helpers import runtime, training
from helpers.circulant_video import batches, evaluation, experiments, losses, model
from helpers.circulant_video.config import CirculantVideoConfig
from helpers.config import values
from helpers.course import weights
from helpers.workspace import StepResult

TRAIN = (
    *("experiments", "seeds", "clusters", "vlad_clusters", "hidden", "mixtures", "bags", "iterations", "halves"),
    *("momentum", "initializer", "batch_size", "epochs", "learning_rate", "decay", "decay_examples", "watch_videos"),
    "precision",
)

JUDGE = "evaluation"  # of the published weights


def fingerprint(config: CirculantVideoConfig) -> dict[str, dict]:
    """The networks that a config's experiments train, and what makes each of them: it stands in no field of the config."""
    features = len(config.feature_sizes)
    names = experiments.run_names(config.experiments, features=features)
    return {name: experiments.own_arguments(name, features=features) for name in names}


def build_network(config: CirculantVideoConfig, name: str, seed: int | None = None) -> keras.Model:
    """One network of the experiments with random weights, from {"frames", "num_frames"} to (B, classes) probabilities."""
    return model.build_classifier(**experiments.arguments(name, config), seed=seed)


def build_loss(config: CirculantVideoConfig) -> keras.losses.Loss:
    """Binary cross entropy, summed over the classes."""
    return losses.SummedCrossEntropy()


def build_optimizer(config: CirculantVideoConfig) -> keras.optimizers.Optimizer:
    """As the original's: Adam, each gradient clipped to norm 1, a staircase."""
    every = max(1, config.decay_examples // config.batch_size)
    rate = keras.optimizers.schedules.ExponentialDecay(config.learning_rate, every, config.decay, staircase=True)
    return keras.optimizers.Adam(rate, epsilon=1e-8, clipnorm=1.0)


def compile_network(config: CirculantVideoConfig, name: str) -> keras.Model:
    """A network that is ready to be trained."""
    with training.strategy().scope():
        network = build_network(config, name)
        network.compile(build_optimizer(config), build_loss(config))
        network.optimizer.build(network.trainable_variables)
    return network


def start_anew(network: keras.Model, config: CirculantVideoConfig, name: str, seed: int) -> None:
    """Give a network the first weights of a seed and its optimiser no past: one network serves all seeds, and is traced once."""
    runtime.set_seeds(seed)
    fresh = build_network(config, name, seed)
    for variable, value in zip(network.variables, fresh.variables, strict=True):
        variable.assign(value)
    for variable in network.optimizer.variables:
        scale = variable.path.endswith("dynamic_scale")  # of the loss, under mixed_float16: at 0 all weights become NaN
        variable.assign(np.full(variable.shape, network.optimizer.initial_scale if scale else 0))


class Watch:
    """What a training is watched on: all scores of the first `count` videos of the side "validation", at each epoch's end."""

    def __init__(self, network: keras.Model, videos: batches.Videos, *, count: int, length: int) -> None:
        self.network, self.videos, self.length = network, videos, length
        self.rows = np.arange(min(count, len(videos)))

    def __call__(self) -> Mapping[str, float]:
        """Names and numbers of the log's columns."""
        return evaluation.score(self.network, self.videos, self.rows, length=self.length)


def train_one(
    config: CirculantVideoConfig, name: str, seed: int, videos: tuple[batches.Videos, batches.Videos], folder: Path,
    *, network: keras.Model | None = None, remote: Any = None,
) -> pd.DataFrame:  # fmt: skip
    """Train one network with one seed in `folder`, or go on with it; returns its log, scores on held-out videos included.

    Args:
        seed: of weights, order of videos and draws of frames.
        videos: to train with, and held out.
        network: of `compile_network`, trained with other seeds before: what was traced serves again, and the numbers are the
            same bits as without it.
    """
    options = {"batch_size": config.batch_size, "length": config.max_frames, "halves": config.halves, "seed": seed}
    feed = batches.Batches(videos[0], **options)
    network = network or compile_network(config, name)
    start_anew(network, config, name, seed)
    quiet = contextlib.redirect_stdout(io.StringIO()) if config.source == "mini" else contextlib.nullcontext()
    with quiet:  # where a training takes seconds, a line for each is enough
        log = training.fit(
            network,
            lambda step: training.prefetch(feed.batch, step),
            run_dir=folder,
            epochs=config.epochs,
            steps_per_epoch=feed.steps_per_epoch,
            validation=Watch(network, videos[1], count=config.watch_videos, length=config.max_frames),
            checkpoint_every=config.checkpoint_every,
            save_every=config.save_every,
            seed=seed,
            remote=remote,
            config={"network": name} | values(config, TRAIN),
        )
    print(f"{name}, seed {seed}: GAP {log['gap'].iloc[-1]:.3f}", flush=True)
    return log.assign(network=name, seed=seed, parameters=network.count_params())


def load_trained(config: CirculantVideoConfig, trained: StepResult) -> dict[str, keras.Model]:
    """What is published of a training: the networks of the first seed, by name."""
    networks = {name: build_network(config, name) for name in experiments.PUBLISHED}
    for name, network in networks.items():
        network.load_weights(trained.folder / experiments.run_folder(name, config.seeds[0]) / "final.weights.h5")
    return networks


def load_published(config: CirculantVideoConfig | None = None) -> dict[str, keras.Model]:
    """The networks of `notebooks/circulant_video/weights` by name, from {"frames", "num_frames"} to probabilities.

    The config gives the widths; None is long.yaml. Raises as `helpers.course.weights.path`.
    """
    config = config or weights.settings("circulant_video")
    return weights.fill("circulant_video", {name: build_network(config, name) for name in experiments.PUBLISHED})
