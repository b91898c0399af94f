"""The discriminator of the first-order motion model: patches of an image judged as genuine or drawn."""

import keras

from helpers.face_animation import layers
from helpers.face_animation.config import FaceAnimationConfig as Defaults
from helpers.face_animation.model import hourglass


def build_discriminator(
    size: int | tuple[int, int] = Defaults.size, *, num_keypoints: int = 10, use_keypoints: bool = True,
    spectral_norm: bool = False, scales: tuple[float, ...] = (1.0,), width: int = 32, max_width: int = 512,
    num_blocks: int = 4, variance: float = layers.VARIANCE,
) -> keras.Model:  # fmt: skip
    """Patches of an image judged as genuine (1) or drawn (0), at one scale or several.

    Args:
        size: of the images, int or (height, width).
        num_keypoints: K.
        use_keypoints: see heatmaps of the driving keypoints beside the image (the configuration "vox-adv").
        spectral_norm: normalise all convolutions (the configuration "vox").
        scales: of the images, such as (1.0, 0.5): one network each.
        width, max_width, num_blocks: channels min(max_width, width 2^(i + 1)) of block i.
        variance: of the heatmaps.

    Returns:
        A model from a dict with image (B, H, W, 3) in [0, 1] and, with `use_keypoints`, kp_value (B, K, 2) to a dict with
        prediction, a list of one (B, h, w, 1) per scale, and features, a list of one list per scale: the blocks' outputs.
    """
    sides = (size, size) if isinstance(size, int) else tuple(size)
    inputs = {"image": keras.Input((*sides, 3), name="image")}
    if use_keypoints:
        inputs["kp_value"] = keras.Input((num_keypoints, 2), dtype="float32", name="kp_value")
    outputs = {"prediction": [], "features": []}
    for scale in scales:
        key = f"{scale:g}".replace(".", "-")
        x = layers.AntiAlias(scale, name=f"discs_{key}_down")(inputs["image"])
        if use_keypoints:
            maps = layers.GaussianMaps(variance, name=f"discs_{key}_maps")(x, inputs["kp_value"])
            x = keras.layers.Concatenate(name=f"discs_{key}_concat")([x, maps])
        filters = [min(max_width, width * 2 ** (i + 1)) for i in range(num_blocks)]
        prediction, features = _patches(x, filters, name=f"discs_{key}", spectral_norm=spectral_norm)
        outputs["prediction"].append(prediction)
        outputs["features"].append(features)
    return keras.Model(inputs, outputs, name="discriminator")


def _patches(x, filters, *, name, spectral_norm):
    options = {"padding": "valid", "layer": hourglass.SpectralConv2D if spectral_norm else keras.layers.Conv2D}
    features = []
    for i, count in enumerate(filters):
        block = f"{name}_down_blocks_{i}"
        x = hourglass.conv(x, count, 4, name=f"{block}_conv", **options)
        if i > 0:  # one group per channel: instance normalisation
            x = keras.layers.GroupNormalization(-1, epsilon=1e-5, name=f"{block}_norm")(x)
        x = keras.layers.LeakyReLU(0.2, name=f"{block}_relu")(x)
        if i < len(filters) - 1:
            x = keras.layers.AveragePooling2D(2, name=f"{block}_pool")(x)
        features.append(x)
    return hourglass.conv(x, 1, 1, name=f"{name}_conv", **options), features
