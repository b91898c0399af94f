"""The keypoint detector in its four variants: where the parts of a face are, and how the face is bent around each of them."""

import cv2
import keras
import numpy as np
from keras import ops

from helpers.face_animation import layers
from helpers.face_animation.config import VARIANTS
from helpers.face_animation.config import FaceAnimationConfig as Defaults
from helpers.face_animation.model import hourglass

LEAST_AREA = 1e-6  # of a hull, in the unit of [-1, 1]: below it keypoints have no size that could be compared
LEAST_DETERMINANT = 1e-4  # of a Jacobian that is inverted


@keras.saving.register_keras_serializable("helpers")
class SoftKeypoints(keras.layers.Layer):
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
        super().__init__(**{"dtype": "float32", **options})
        self.temperature = temperature

    def heatmaps(self, logits):
        """(B, h, w, K), each of the K maps with the sum 1."""
        _, height, width, count = logits.shape
        flat = ops.reshape(ops.cast(logits, "float32") / self.temperature, (-1, height * width, count))
        return ops.reshape(ops.softmax(flat, axis=1), (-1, height, width, count))

    def call(self, logits, jacobians):
        _, height, width, count = logits.shape
        heat = self.heatmaps(logits)[..., None]
        grid = ops.convert_to_tensor(layers.coordinate_grid(height, width)[:, :, None])
        matrices = ops.reshape(ops.cast(jacobians, "float32"), (-1, height, width, count, 4))
        jacobian = ops.reshape(ops.sum(heat * matrices, axis=(1, 2)), (-1, count, 2, 2))
        return {"value": ops.sum(heat * grid, axis=(1, 2)), "jacobian": jacobian}

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}


@keras.saving.register_keras_serializable("helpers")
class SoftHeatmaps(SoftKeypoints):
    """The softmax of `SoftKeypoints` itself, to look at: logits (B, h, w, K) -> (B, h, w, K)."""

    def call(self, logits):
        return self.heatmaps(logits)


def build_keypoint_detector(
    variant: str = "fomm", size: int | tuple[int, int] = Defaults.size, num_keypoints: int = 10, num_blocks: int = 5,
    align_corners: bool = True, *, width: int = 32, max_width: int = 1024, scale: float = 0.25, temperature: float = 0.1,
) -> keras.Model:  # fmt: skip
    """The keypoint detector of Siarohin et al., "First order motion model for image animation", 2019, arXiv 2003.00196.

    Args:
        variant: "fomm"; "fomm_6b", one block more; "unet", two convolutions per block; "unet3plus", a decoder whose stages
            see all levels, at half the resolution.
        size: of the images, int or (height, width).
        num_keypoints: K.
        num_blocks: halvings, in "fomm_6b" one more.
        align_corners: without effect here, so that the options of a generator fit: keypoints always have -1 and 1 at the
            centres of the outermost pixels.
        width, max_width: channels of the first and of the widest block.
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
    if min(x.shape[1:3]) < 7:
        raise ValueError(f"size: the maps must have 7 pixels or more. Received: {x.shape[1:3]} from size={size!r}")
    logits = hourglass.conv(x, num_keypoints, 7, padding="valid", name="kp")
    jacobians = keras.layers.Conv2D(
        4 * num_keypoints, 7, kernel_initializer="zeros", bias_initializer=UnitMatrices(), name="jacobian"
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


def build_heatmaps(detector: keras.Model) -> keras.Model:
    """The heatmaps behind the keypoints, to look at: images (B, H, W, 3) -> (B, h, w, K); shares the detector's weights."""
    logits = detector.get_layer("kp").output
    temperature = detector.get_layer("keypoints").temperature
    return keras.Model(detector.input, SoftHeatmaps(temperature, name="heatmaps")(logits), name="heatmaps")


def relative_motion(source: dict, driving: dict, initial: dict, *, adapt_scale: bool = True) -> dict:
    """Carry a motion over: where the source's keypoints go when they move as the driving ones did since the initial frame.

    value = (driving - initial) a + source, jacobian = J_driving J_initial^-1 J_source; a = sqrt(area of the source's hull / area
    of the initial one's) adapts to a smaller or larger face. A hull without area gives a = 1, and where an initial Jacobian
    cannot be inverted that of the source stays.

    Args:
        source, initial: dict of NumPy arrays value (1, K, 2) and jacobian (1, K, 2, 2).
        driving: the same with T in place of 1.
        adapt_scale: or a = 1.

    Returns:
        dict with value (T, K, 2) and jacobian (T, K, 2, 2), float32.
    """
    areas = [hull_area(part["value"][0]) for part in (source, initial)]
    scale = np.sqrt(areas[0] / areas[1]) if adapt_scale and min(areas) > LEAST_AREA else 1.0
    matrices = initial["jacobian"].astype(np.float64)
    bad = np.abs(np.linalg.det(matrices)) < LEAST_DETERMINANT
    turn = driving["jacobian"] @ np.linalg.inv(np.where(bad[..., None, None], np.eye(2), matrices))
    turn = np.where(bad[..., None, None], np.eye(2), turn)
    value = (driving["value"] - initial["value"]) * scale + source["value"]
    return {"value": value.astype(np.float32), "jacobian": (turn @ source["jacobian"]).astype(np.float32)}


def best_frame(source, driving) -> int:
    """The driving frame whose pose is nearest to the source's.

    Args:
        source: (K, 2) keypoints.
        driving: (T, K, 2).

    Returns:
        The frame with the least sum of squared differences of keypoints, each set moved to mean 0 and hull 1.
    """
    wanted = _normalised(source)
    return int(np.argmin([np.square(_normalised(values) - wanted).sum() for values in driving]))


def _normalised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(axis=0)) / np.sqrt(max(hull_area(values), LEAST_AREA))


def hull_area(values) -> float:
    """Area of the convex hull of points (K, 2); 0 where they lie on a line."""
    values = np.asarray(values, np.float32)
    if values.ndim != 2 or values.shape[1] != 2 or not np.isfinite(values).all():
        raise ValueError(f"values must be finite, (K, 2). Received: shape {values.shape}, {values.tolist()}")
    return float(cv2.contourArea(cv2.convexHull(values)))
