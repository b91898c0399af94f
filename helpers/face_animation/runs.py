"""One training of one variant: its batches, what is watched meanwhile, and the weights that it leaves."""

from pathlib import Path

import numpy as np
import pandas as pd
from keras import ops
from PIL import Image

from helpers import runtime, training
from helpers.face_animation import networks, visualiser
from helpers.face_animation.batches import Batches
from helpers.workspace import disk

TRAIN = (
    *("variants", "network", "size", "scale", "align_corners", "checkpoint", "perceptual", "perceptual_weight"),
    *("equivariance_value", "equivariance_jacobian", "generator_gan", "feature_matching", "discriminator_keypoints"),
    *("spectral_norm", "epochs", "repeats", "draw_persons", "batch_size", "learning_rate", "milestones", "augment"),
    *("watch_pairs", "precision", "seed"),
)
PARTS = ("kp_detector", "generator")  # what playing a face needs
SHOWN = 4  # pairs drawn after each epoch
COLUMNS = ("source", "driving", "deformed", "prediction", "occlusion")


def batches_of(config, clips: pd.DataFrame, root: Path) -> Batches:
    """The training batches of some clips.

    Args:
        clips: rows with clip, path, frames.
        root: folder of the paths.
    """
    return Batches(
        clips,
        root,
        batch_size=config.batch_size,
        size=(config.size, config.size),
        repeats=config.repeats,
        by_person=config.draw_persons,
        augmentation=config.augment,
        keep=config.keep_clips,
        seed=config.seed,
    )


def watched_pairs(config, clips: pd.DataFrame, root: Path) -> dict[str, np.ndarray]:
    """Pairs of frames that stay the same during a training: source and driving, (N, H, W, 3) float32 in [0, 1]."""
    repeats = -(-config.watch_pairs // max(1, len(clips)))
    size = (config.size, config.size)
    batches = Batches(
        clips, root, batch_size=config.watch_pairs, size=size, repeats=repeats, augmentation=False, seed=config.seed
    )
    return batches.batch(0)


class Watch:
    """Called at the end of each epoch: the L1 of some unseen pairs, and a picture of the first of them.

    Args:
        model: the `trainer.AnimationModel` in training.
        pairs: of `watched_pairs`.
        folder: gets `seen/<epoch>.png`, see `visualiser.columns`.
        steps_per_epoch: updates of an epoch.
    """

    def __init__(self, model, pairs: dict[str, np.ndarray], folder: Path, steps_per_epoch: int) -> None:
        self.model, self.folder, self.steps_per_epoch = model, folder, steps_per_epoch
        self.pairs = {name: ops.convert_to_tensor(images) for name, images in pairs.items()}

    def __call__(self) -> dict[str, float]:
        """`watch_l1`, the mean absolute difference of the pixels, which are in [0, 1]."""
        drawn = {name: ops.convert_to_numpy(value) for name, value in self.model(self.pairs, training=False).items()}
        number = int(self.model.optimizer.iterations) // self.steps_per_epoch
        pairs = {name: ops.convert_to_numpy(images) for name, images in self.pairs.items()}
        first = {name: values[:SHOWN] for name, values in (pairs | drawn).items()}
        columns = visualiser.columns(first["source"], first["driving"], first)
        picture = visualiser.draw_columns({name: columns[name] for name in COLUMNS})
        with disk.atomic_path(self.folder / "seen" / f"{number:04d}.png") as path:
            Image.fromarray(picture).save(path)
        return {"watch_l1": float(np.abs(drawn["prediction"] - pairs["driving"]).mean())}


def train_one(
    config, variant: str, clips: pd.DataFrame, unseen: pd.DataFrame, root: Path, folder: Path, *, remote=None
):
    """Train one variant in `folder`, or go on with it; leaves `kp_detector.weights.h5` and `generator.weights.h5`.

    Args:
        variant: of the keypoint detector.
        clips, unseen: rows of the group that is trained on, and of clips that are only watched.
        root: folder of their paths.
        folder: of this variant.
        remote: see `training.fit`.

    Returns:
        The log, with the column variant.
    """
    batches = batches_of(config, clips, root)
    runtime.set_seeds(config.seed)
    model = networks.build_model(config, variant, steps_per_epoch=batches.steps_per_epoch)
    dummy = np.zeros(config.batch_size, "float32")  # the pictures are their own labels
    log = training.fit(
        model,
        lambda step: training.prefetch(lambda number: (batches.batch(number), dummy), step),
        run_dir=folder,
        epochs=config.epochs,
        steps_per_epoch=batches.steps_per_epoch,
        validation=Watch(model, watched_pairs(config, unseen, root), folder, batches.steps_per_epoch),
        checkpoint_every=config.checkpoint_every,
        save_every=config.save_every,
        seed=config.seed,
        remote=remote,
        config={name: getattr(config, name) for name in TRAIN} | {"variant": variant},
    )
    save_networks(folder, model.kp_detector, model.generator)
    return log.assign(variant=variant)


def save_networks(folder: Path, *parts) -> None:
    """Write keypoint detector and generator as `<part>.weights.h5`, which `load_networks` reads.

    So published weights are converted once and kept: `save_networks(folder, *load_networks(config, "fomm"))` with the config's
    `checkpoint` set.
    """
    for name, network in zip(PARTS, parts, strict=True):
        with disk.atomic_path(Path(folder) / f"{name}.weights.h5") as path:
            network.save_weights(path)


def load_networks(config, variant: str, folder: Path | None = None):
    """Keypoint detector and generator of a variant, with the weights of `folder`, or as they were before training."""
    detector, generator = networks.build_detector(config, variant), networks.build_generator(config)
    if folder is not None:
        for part, network in zip(PARTS, (detector, generator), strict=True):
            network.load_weights(Path(folder) / f"{part}.weights.h5")
    elif config.checkpoint:
        networks.load_published(config.checkpoint, detector, generator)
    return detector, generator
