"""The networks of a configuration: their widths, the first weights, the loss, the optimiser."""

from pathlib import Path

import keras

from helpers import training
from helpers.face_animation import checkpoint, losses, model, trainer

# The widths of `model.build_*`; vox256 is the original's. The two small ones are for two cores and for small frames.
WIDTHS = {
    "tiny64": {
        "num_keypoints": 5,
        "detector": {"width": 8, "max_width": 64, "num_blocks": 3, "scale": 0.5},
        "generator": {"width": 16, "max_width": 64, "num_downs": 1, "num_residuals": 2}
        | {"motion_width": 16, "motion_max_width": 64, "motion_blocks": 2, "scale": 0.25},
        "discriminator": {"width": 8, "max_width": 64, "num_blocks": 3},
    },
    "small128": {
        "num_keypoints": 10,
        "detector": {"width": 16, "max_width": 256, "num_blocks": 4, "scale": 0.5},
        "generator": {"width": 32, "max_width": 256, "num_downs": 2, "num_residuals": 4}
        | {"motion_width": 32, "motion_max_width": 256, "motion_blocks": 4, "scale": 0.5},
        "discriminator": {"width": 16, "max_width": 256, "num_blocks": 4},
    },
    "vox256": {"num_keypoints": 10, "detector": {}, "generator": {}, "discriminator": {}},
}


def _options(config, part: str) -> dict:
    widths = WIDTHS[config.network]
    scale = {"scale": config.scale} if config.scale and part != "discriminator" else {}
    return {"size": config.size, "num_keypoints": widths["num_keypoints"], **widths[part], **scale}


def build_detector(config, variant: str) -> keras.Model:
    """The keypoint detector of a variant, with its first weights from `config.seed`."""
    keras.utils.set_random_seed(config.seed)
    return model.build_keypoint_detector(variant, **_options(config, "detector"))


def build_generator(config) -> keras.Model:
    """The generator; the same first weights whatever the variant."""
    keras.utils.set_random_seed(config.seed + 1)
    return model.build_generator(align_corners=config.align_corners, **_options(config, "generator"))


def build_discriminator(config) -> keras.Model | None:
    """The discriminator, or None where no loss asks for it."""
    if not config.generator_gan:
        return None
    keras.utils.set_random_seed(config.seed + 2)
    return model.build_discriminator(
        use_keypoints=config.discriminator_keypoints,
        spectral_norm=config.spectral_norm,
        **_options(config, "discriminator"),
    )


def learning_rate(config, steps_per_epoch: int):
    """The rate: constant, or a tenth from each milestone on, counted in epochs."""
    if not config.milestones:
        return config.learning_rate
    rates = [config.learning_rate / 10**fall for fall in range(len(config.milestones) + 1)]
    ends = [epoch * steps_per_epoch - 1 for epoch in config.milestones]  # Keras takes the next rate after its boundary
    return keras.optimizers.schedules.PiecewiseConstantDecay(ends, rates)


def build_features(config) -> keras.Model:
    """The frozen network that compares pictures."""
    if config.perceptual == "stand_in":
        return losses.build_stand_in(seed=config.seed)
    smallest = int(config.size * min(losses.SCALES))
    return losses.build_vgg19(
        blocks=min(5, max(1, smallest).bit_length())
    )  # each block halves; below 128 pixels fewer fit


def build_model(config, variant: str, *, steps_per_epoch: int) -> "trainer.AnimationModel":
    """All networks of a training with loss and optimiser, compiled, built and ready for `training.fit`."""
    with training.strategy().scope():
        detector, generator, discriminator = (
            build_detector(config, variant),
            build_generator(config),
            build_discriminator(config),
        )
        if config.checkpoint:
            load_published(config.checkpoint, detector, generator, discriminator)
        whole = trainer.AnimationModel(
            detector,
            generator,
            discriminator,
            features=build_features(config),
            weights=weights_of(config),
            seed=config.seed,
        )
        rate = learning_rate(config, steps_per_epoch)
        whole.compile(keras.optimizers.Adam(rate, beta_1=0.5, beta_2=0.999, epsilon=1e-8))
        whole.optimizer.build(whole.trainable_variables)
    return whole


def weights_of(config) -> "trainer.LossWeights":
    """The weights of the terms of the loss."""
    return trainer.LossWeights(
        perceptual=config.perceptual_weight,
        equivariance_value=config.equivariance_value,
        equivariance_jacobian=config.equivariance_jacobian,
        generator_gan=config.generator_gan,
        feature_matching=config.feature_matching,
    )


def load_published(path: str, detector, generator, discriminator=None) -> dict:
    """Take the weights of a published `.pth.tar`; see `checkpoint.to_keras`."""
    wanted = ["kp_detector", "generator"] + (["discriminator"] if discriminator is not None else [])
    state = checkpoint.load_torch(Path(path).expanduser(), only=wanted)
    return checkpoint.to_keras(state, detector, generator, discriminator=discriminator)
