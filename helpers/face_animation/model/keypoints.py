"""The keypoint detector in its four variants: where the parts of a face are, and how the face is bent around each of them."""

import keras
import numpy as np
from keras import ops

from helpers.face_animation import layers
from helpers.face_animation.config import VARIANTS
from helpers.face_animation.config import FaceAnimationConfig as Defaults
from helpers.face_animation.model import hourglass


@keras.saving.register_keras_serializable("helpers")
class SoftKeypoints(layers.Geometry):
    """Means over a softmax of all positions: of the position, and of a 2x2 matrix. Float32 under every dtype policy.

    Args:
        temperature: divides the logits; the smaller, the sharper.

    Call arguments:
        logits: (B, h, w, K).
        jacobians: (B, h, w, 4 K), channel 4 k + 2 row + column.

    Returns:
        dict with value (B, K, 2) in [-1, 1] and jacobian (B, K, 2, 2).
    """

    def __init__(self, temperature=0.1, **options):
        super().__init__(**options)
        self.temperature = temperature

    def call(self, logits, jacobians):
        _, height, width, count = logits.shape
        flat = ops.reshape(ops.cast(logits, "float32") / self.temperature, (-1, height * width, count))
        heat = ops.reshape(ops.softmax(flat, axis=1), (-1, height, width, count, 1))  # each map has the sum 1
        grid = ops.convert_to_tensor(layers.coordinate_grid(height, width)[:, :, None])
        matrices = ops.reshape(ops.cast(jacobians, "float32"), (-1, height, width, count, 4))
        jacobian = ops.reshape(ops.sum(heat * matrices, axis=(1, 2)), (-1, count, 2, 2))
        return {"value": ops.sum(heat * grid, axis=(1, 2)), "jacobian": jacobian}

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}


def build_keypoint_detector(
    variant: str = "fomm", size: int | tuple[int, int] = Defaults.size, num_keypoints: int = 10, num_blocks: int = 5,
    align_corners: bool = True, *, width: int = 32, max_width: int = 1024, kernel: int = 7, scale: float = 0.25,
    temperature: float = 0.1,
) -> keras.Model:  # fmt: skip
    """The keypoint detector of Siarohin et al., "First order motion model for image animation", 2019, arXiv 2003.00196.

    Args:
        variant: "fomm"; "fomm_6b", one block more; "unet", two convolutions per block; "unet3plus", a decoder whose stages
            see all levels, at half the resolution.
        size: of the images, int or (height, width).
        num_keypoints: K (`runs.WIDTHS` gives it per network).
        num_blocks: halvings, in "fomm_6b" one more.
        align_corners: without effect here, so that the options of a generator fit: keypoints always have -1 and 1 at the
            centres of the outermost pixels.
        width, max_width: channels of the first and of the widest block.
        kernel: side of the two convolutions that end it.
        scale: of the images that the network sees.
        temperature: of the softmax.

    Returns:
        A model from images (B, H, W, 3) in [0, 1] to a dict with value (B, K, 2), (x, y) in [-1, 1], and jacobian (B, K, 2, 2).

    Raises:
        ValueError: an unknown variant, or a size that cannot be halved so often.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS)}. Received: variant={variant!r}")
    blocks = num_blocks + (variant == "fomm_6b")
    height, side = hourglass.check_size(size, scale=scale, blocks=blocks, what=f"the variant {variant}")
    images = keras.Input((height, side, 3), name="images")
    x = layers.AntiAlias(scale, name="down")(images)
    options = {"width": width, "max_width": max_width, "blocks": blocks, "name": "predictor"}
    if variant == "unet3plus":
        x = hourglass.unet3plus(x, **options)
    else:
        x = hourglass.hourglass(x, convs=2 if variant == "unet" else 1, **options)
    if min(x.shape[1:3]) < kernel:
        raise ValueError(
            f"size: the maps must have {kernel} pixels or more. Received: {x.shape[1:3]} from size={size!r}"
        )
    logits = hourglass.conv(x, num_keypoints, kernel, padding="valid", name="kp")
    jacobians = keras.layers.Conv2D(
        4 * num_keypoints, kernel, kernel_initializer="zeros", bias_initializer=UnitMatrices(), name="jacobian"
    )(x)
    outputs = SoftKeypoints(temperature, name="keypoints")(logits, jacobians)
    return keras.Model(images, outputs, name=f"{variant}_keypoints")


@keras.saving.register_keras_serializable("helpers")
class UnitMatrices(keras.initializers.Initializer):
    """1, 0, 0, 1 over and over: every keypoint starts with the unit matrix as its Jacobian."""

    def __call__(self, shape, dtype=None):
        return ops.convert_to_tensor(np.resize([1.0, 0.0, 0.0, 1.0], shape), dtype=dtype)

    def get_config(self):
        return {}
