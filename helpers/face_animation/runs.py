"""One training of one variant: its networks and batches, what is watched meanwhile, and the weights that it leaves."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from keras import ops
from PIL import Image

from helpers import runtime, training
from helpers.config import values
from helpers.course import weights
from helpers.face_animation import checkpoint, losses, model
from helpers.face_animation.batches import Batches
from helpers.face_animation.config import FaceAnimationConfig
from helpers.face_animation.evaluation import visualiser
from helpers.face_animation.model.animation import AnimationModel, LossWeights
from helpers.training import checkpoints, remote_log
from helpers.workspace import StepResult, disk

TRAIN = (
    *("variants", "network", "generator", "size", "scale", "align_corners", "checkpoint", "perceptual"),
    *(
        "perceptual_weight",
        "warped_weight",
        "equivariance_value",
        "equivariance_jacobian",
        "generator_gan",
        "feature_matching",
    ),
    *("discriminator_keypoints", "spectral_norm", "epochs", "repeats", "draw_persons", "batch_size", "learning_rate"),
    *("milestones", "augment", "watch_pairs", "precision", "seed"),
)
WEIGHTS = ("equivariance_value", "equivariance_jacobian", "generator_gan", "feature_matching")
PARTS = ("kp_detector", "generator")  # what playing a face needs
JUDGE = "evaluation.scoring"  # of the published weights
SEEN_PAIRS = 4  # drawn after each epoch, into `seen/`
SEEN_COLUMNS = ("source", "driving", "deformed", "drawn", "keep", "occlusion", "prediction")


def _narrow(num_keypoints: int, width: int, max_width: int, num_blocks: int, kernel: int, **generator: float) -> dict:
    side = {"width": width, "max_width": max_width, "num_blocks": num_blocks}
    drawing = {"width": 2 * width, "max_width": max_width}
    drawing |= {f"motion_{name}": value for name, value in drawing.items()} | {"kernel": kernel}
    parts = {
        "detector": side | {"kernel": kernel, "scale": 0.5},
        "generator": drawing | generator,
        "discriminator": side,
    }
    return {"num_keypoints": num_keypoints, **parts}


# The widths of `model.build_*`; vox256 is the original's. The two small ones are for two cores and for small frames.
WIDTHS = {
    "tiny64": _narrow(10, 8, 64, 3, 3, num_downs=1, num_residuals=2, motion_blocks=3, scale=0.5),
    "small128": _narrow(10, 16, 256, 4, 7, num_downs=2, num_residuals=4, motion_blocks=4, scale=0.5),
    "vox256": {"num_keypoints": 10, "detector": {}, "generator": {}, "discriminator": {}},
}


def _options(config: FaceAnimationConfig, part: str) -> dict:
    widths = WIDTHS[config.network]
    scale = {"scale": config.scale} if config.scale and part != "discriminator" else {}
    return {"size": config.size, "num_keypoints": widths["num_keypoints"], **widths[part], **scale}


def new_detector(config: FaceAnimationConfig, variant: str) -> keras.Model:
    """The keypoint detector of a variant, with its first weights from `config.seed`."""
    keras.utils.set_random_seed(config.seed)
    return model.build_keypoint_detector(variant, **_options(config, "detector"))


def new_generator(config: FaceAnimationConfig) -> keras.Model:
    """The generator; the same first weights whatever the variant."""
    keras.utils.set_random_seed(config.seed + 1)
    skip = config.generator == "skip"
    return model.build_generator(align_corners=config.align_corners, skip=skip, **_options(config, "generator"))


def new_discriminator(config: FaceAnimationConfig) -> keras.Model | None:
    """The discriminator, or None where no loss asks for it."""
    if not config.generator_gan:
        return None
    keras.utils.set_random_seed(config.seed + 2)
    options = {"use_keypoints": config.discriminator_keypoints, "spectral_norm": config.spectral_norm}
    return model.build_discriminator(**options, **_options(config, "discriminator"))


def _load_published(path: str, detector: keras.Model, generator: keras.Model, judge: keras.Model | None = None) -> None:
    wanted = [*PARTS, "discriminator"] if judge is not None else PARTS
    state = checkpoint.load_torch(Path(path).expanduser(), only=wanted)
    checkpoint.to_keras(state, detector, generator, discriminator=judge)


def build_network(config: FaceAnimationConfig, variant: str, *, steps_per_epoch: int) -> AnimationModel:
    """All networks of a training with loss and optimiser, compiled, built and ready for `training.fit`."""
    with training.strategy().scope():
        detector, generator, judge = new_detector(config, variant), new_generator(config), new_discriminator(config)
        if config.checkpoint:
            _load_published(config.checkpoint, detector, generator, judge)
        named = {name: getattr(config, name) for name in WEIGHTS}
        shares = LossWeights(config.perceptual_weight, config.warped_weight, **named)
        whole = AnimationModel(detector, generator, judge, compare=build_loss(config), weights=shares, seed=config.seed)
        rate = learning_rate(config.learning_rate, config.milestones, steps_per_epoch)
        whole.compile(keras.optimizers.Adam(rate, beta_1=0.5, beta_2=0.999, epsilon=1e-8))
        whole.optimizer.build(whole.trainable_variables)
    return whole


def learning_rate(start: float, milestones: tuple[int, ...], steps_per_epoch: int):
    """The rate: constant, or a tenth from each milestone on, counted in epochs."""
    if not milestones:
        return start
    rates = [start / 10**fall for fall in range(len(milestones) + 1)]
    ends = [epoch * steps_per_epoch - 1 for epoch in milestones]  # Keras takes the next rate after its boundary
    return keras.optimizers.schedules.PiecewiseConstantDecay(ends, rates)


def build_loss(config: FaceAnimationConfig) -> Callable:
    """The distance of two batches of pictures, (prediction, driving) -> a scalar: the term `perceptual` of the loss."""
    return functools.partial(losses.perceptual, build_features(config))


def build_features(config: FaceAnimationConfig) -> keras.Model:
    """The frozen network that compares pictures."""
    if config.perceptual == "stand_in":
        return losses.build_stand_in(seed=config.seed)
    smallest = int(config.size * min(losses.SCALES))
    # Each block halves; below 128 pixels fewer fit.
    return losses.build_vgg19(blocks=min(5, max(1, smallest).bit_length()))


def batches_of(config: FaceAnimationConfig, clips: pd.DataFrame, root: Path) -> Batches:
    """The training batches of clips, rows with clip, path, frames, below `root`."""
    options = {name: getattr(config, name) for name in ("batch_size", "repeats", "seed")}
    options |= {"by_person": config.draw_persons, "augmentation": config.augment, "keep": config.keep_clips}
    return Batches(clips, root, size=(config.size, config.size), **options)


def watched_pairs(config: FaceAnimationConfig, clips: pd.DataFrame, root: Path) -> dict[str, np.ndarray]:
    """Pairs of frames that stay the same during a training: source and driving, (N, H, W, 3) float32 in [0, 1]."""
    count, size = config.watch_pairs, (config.size, config.size)
    options = {"repeats": -(-count // max(1, len(clips))), "augmentation": False, "seed": config.seed}
    return Batches(clips, root, batch_size=count, size=size, **options).pairs(0, "watch")


class Watch:
    """Called at each epoch's end: the L1 of some pairs of `validation`, of the first a picture, `seen/<epoch>.png`."""

    def __init__(
        self, whole: AnimationModel, pairs: Mapping[str, np.ndarray], folder: Path, steps_per_epoch: int
    ) -> None:
        self.whole, self.pairs, self.folder, self.steps_per_epoch = whole, pairs, folder, steps_per_epoch
        self.inputs = {name: ops.convert_to_tensor(images) for name, images in pairs.items()}

    def __call__(self) -> dict[str, float]:
        """`watch_l1`, the mean absolute difference of the pixels, which are in [0, 1]."""
        drawn = {name: ops.convert_to_numpy(value) for name, value in self.whole(self.inputs, training=False).items()}
        first = {name: images[:SEEN_PAIRS] for name, images in (self.pairs | drawn).items()}
        corners = self.whole.generator.get_layer("warp").align_corners
        columns = visualiser.columns(first["source"], first["driving"], first, align_corners=corners)
        number = int(self.whole.optimizer.iterations) // self.steps_per_epoch
        with disk.atomic_path(self.folder / "seen" / f"{number:04d}.png") as path:
            shown = {name: columns[name] for name in SEEN_COLUMNS if name in columns}
            Image.fromarray(visualiser.draw_columns(shown)).save(path)
        return {"watch_l1": float(np.abs(drawn["prediction"] - self.pairs["driving"]).mean())}


def train_one(
    config: FaceAnimationConfig, variant: str, batches: Batches, pairs: Mapping[str, np.ndarray], folder: Path, *,
    remote: remote_log.RemoteLog | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Train one variant on `batches` in its `folder`, or go on with it, and watch `pairs`, of `watched_pairs`.

    Leaves `kp_detector.weights.h5` and `generator.weights.h5`; returns the log, with the column variant.
    """
    runtime.set_seeds(config.seed)
    whole = build_network(config, variant, steps_per_epoch=batches.steps_per_epoch)
    dummy = np.zeros(config.batch_size, "float32")  # the pictures are their own labels
    saving = {name: getattr(config, name) for name in ("epochs", "checkpoint_every", "save_every", "seed")}
    log = training.fit(
        whole,
        lambda step: training.prefetch(lambda number: (batches.batch(number), dummy), step),
        run_dir=folder,
        steps_per_epoch=batches.steps_per_epoch,
        validation=Watch(whole, pairs, folder, batches.steps_per_epoch),
        remote=remote,
        config=values(config, TRAIN) | {"variant": variant},
        **saving,
    )
    save_networks(folder, whole.kp_detector, whole.generator)
    return log.assign(variant=variant)


def save_networks(folder: Path, *parts: keras.Model) -> None:
    """Write keypoint detector and generator, trained or published ones, as `<part>.weights.h5`, which `load_networks` reads."""
    for name, network in zip(PARTS, parts, strict=True):
        with disk.atomic_path(Path(folder) / f"{name}.weights.h5", room=checkpoints.room_for(network)) as path:
            network.save_weights(path)


def load_networks(
    config: FaceAnimationConfig, variant: str, folder: Path | None = None
) -> tuple[keras.Model, keras.Model]:
    """Keypoint detector and generator of a variant, with the weights of `folder`, or as they were before training."""
    networks = new_detector(config, variant), new_generator(config)
    if folder is not None:
        for name, network in zip(PARTS, networks, strict=True):
            network.load_weights(Path(folder) / f"{name}.weights.h5")
    elif config.checkpoint:
        _load_published(config.checkpoint, *networks)
    return networks


def load_trained(config: FaceAnimationConfig, trained: StepResult) -> dict[str, keras.Model]:
    """What is published of a training: the `PARTS` of the variant that was best on the clips that were watched."""
    watched = trained["watch_l1"]
    best = min(watched, key=watched.get)
    return dict(zip(PARTS, load_networks(config, best, trained.folder / best), strict=True))


def load_published(config: FaceAnimationConfig | None = None) -> dict[str, keras.Model]:
    """The `PARTS` by name with the weights of `notebooks/face_animation/weights`, ready for `animate.Animator`.

    The config says variant and widths; None is long.yaml. Raises as `helpers.course.weights.path`.
    """
    config = config or weights.settings("face_animation")
    return weights.fill("face_animation", dict(zip(PARTS, load_networks(config, config.variants[0]), strict=True)))
