"""Losses of the first-order motion model (Siarohin et al., 2019, arXiv 2003.00196), unweighted means over the batch.

And the frozen networks that some compare by. The losses' weights are in `model.animation.LossWeights`, from the config.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from helpers.face_animation import layers

SCALES = (1.0, 0.5, 0.25, 0.125)
VGG_MEAN = (103.939, 116.779, 123.68)  # blue, green, red of ImageNet in 0..255
VGG_UNIT = 57.4  # 255 * 0.225: torchvision's VGG, for which the weights were tuned, sees colours so many times smaller


def image_pyramid(images, scales: Sequence[float] = SCALES) -> list:
    """Images (B, H, W, C) shrunk by `layers.AntiAlias`: one (B, ceil(H s), ceil(W s), C) per scale s."""
    return [layers.AntiAlias(scale, name=f"pyramid_{scale:g}".replace(".", "-"))(images) for scale in scales]


def perceptual(features: Callable, prediction, driving, scales: Sequence[float] = SCALES):
    """Sum over scales and levels of the mean absolute difference of features; none of it moves the driving image.

    Args:
        features: from images to a list of feature maps, such as `build_vgg19()` or `build_stand_in()`.
        prediction, driving: (B, H, W, 3) in [0, 1].
        scales: of the pyramid.

    Returns:
        A scalar, float32.
    """
    total = 0.0
    for drawn, true in zip(image_pyramid(prediction, scales), image_pyramid(driving, scales), strict=True):
        for one, two in zip(features(drawn), features(ops.stop_gradient(true)), strict=True):
            total = total + mean_absolute(one, ops.stop_gradient(two))
    return total


def pixels(images):
    """Features that are the images themselves: with them `perceptual` is the plain L1 distance over the pyramid."""
    return [images]


def equivariance_value(driving, moved):
    """Mean |d - T(t)| of keypoints (B, K, 2): the driving frame's, and the transformed one's moved back by the transform."""
    return mean_absolute(driving, moved)


def equivariance_jacobian(driving_jacobian, transform_jacobian, transformed_jacobian):
    """Mean |I - (J^d)^-1 DT(t) J^t|, each (B, K, 2, 2): J^d of the driving frame, DT and J^t at the transformed one's keypoints."""
    moved = layers.matmul_2x2(transform_jacobian, transformed_jacobian)
    return mean_absolute(ops.eye(2), layers.matmul_2x2(layers.inverse_2x2(driving_jacobian), moved))


def generator_gan(fake: Sequence):
    """Sum of the mean (1 - D(fake))^2 over the discriminator's judgements (B, h, w, 1), one per scale."""
    return sum(ops.mean(ops.square(1 - ops.cast(one, "float32"))) for one in fake)


def discriminator_gan(real: Sequence, fake: Sequence):
    """Sum of the mean (1 - D(real))^2 + D(fake)^2 over the discriminator's judgements (B, h, w, 1), one per scale."""
    return generator_gan(real) + sum(ops.mean(ops.square(ops.cast(one, "float32"))) for one in fake)


def feature_matching(real: Sequence[Sequence], fake: Sequence[Sequence]):
    """Sum over scales and blocks of the mean |D_i(real) - D_i(fake)| of features (B, h, w, C); the real side gets no gradient."""
    pairs = zip(keras.tree.flatten(real), keras.tree.flatten(fake), strict=True)
    return sum(mean_absolute(ops.stop_gradient(true), drawn) for true, drawn in pairs)


def mean_absolute(a, b):
    """Mean of |a - b| in float32, a scalar."""
    return ops.mean(ops.abs(ops.cast(a, "float32") - ops.cast(b, "float32")))


@keras.saving.register_keras_serializable("helpers")
class ToCaffe(layers.Geometry):
    """RGB in [0, 1] -> blue, green, red in 0..255 less their means, as the network of `build_vgg19` was trained."""

    def call(self, images):
        return ops.cast(images, "float32")[..., ::-1] * 255.0 - ops.convert_to_tensor(np.float32(VGG_MEAN))


def build_vgg19(weights: str | None = "imagenet", *, blocks: int = 5) -> keras.Model:
    """VGG19 up to the first convolution of each block, frozen (Simonyan and Zisserman, 2014, arXiv 1409.1556).

    Args:
        weights: "imagenet": about 80 MB, downloaded once into Keras's own folder; a path of such a file; None: random.
        blocks: 5 for the losses of the paper.

    Returns:
        A model from images (B, H, W, 3), RGB in [0, 1], to a list of features after the ReLU, scaled like those of torchvision.

    Raises:
        ValueError: `weights` is neither of these, or no such file.
    """
    vgg = keras.applications.VGG19(include_top=False, weights=weights)
    levels = [vgg.get_layer(f"block{i + 1}_conv1").output for i in range(blocks)]
    images = keras.Input((None, None, 3), name="images")
    scaled = keras.layers.Rescaling(1 / VGG_UNIT, name="to_torchvision")
    features = [scaled(level) for level in keras.Model(vgg.input, levels)(ToCaffe(name="to_caffe")(images))]
    return keras.Model(images, features, name="vgg19_features", trainable=False)


def build_stand_in(seed: int = 0) -> keras.Model:
    """A small frozen network in place of VGG19 that needs no download: pixels, their slopes, and random filters over them.

    From images (B, H, W, 3) in [0, 1] to a list of 5 features, the last of half the size; `seed` is of the filters.
    """
    images = keras.Input((None, None, 3), name="images")
    x = keras.layers.Rescaling(4.0, -2.0, name="pixels")(images)  # mean about 0 and deviation about 1, like VGG's input
    features = [x, x[:, 1:] - x[:, :-1], x[:, :, 1:] - x[:, :, :-1]]  # slopes ask for edges
    for i, count in enumerate((16, 32)):
        kernel = keras.initializers.Orthogonal(gain=2.0**0.5, seed=seed + i)
        options = {"padding": "same", "activation": "relu", "kernel_initializer": kernel}
        x = keras.layers.Conv2D(count, 3, **options, name=f"level{i}")(x)
        features.append(x)
        x = keras.layers.AveragePooling2D(2, name=f"half{i}")(x) if i == 0 else x
    return keras.Model(images, features, name="stand_in_features", trainable=False)
