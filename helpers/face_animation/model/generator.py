"""The generator, with its dense motion network, of the first-order motion model (Siarohin et al., 2019, arXiv 2003.00196)."""

import keras

from helpers.face_animation import layers
from helpers.face_animation.config import FaceAnimationConfig as Defaults
from helpers.face_animation.model import hourglass, motion


def build_generator(
    size: int | tuple[int, int] = Defaults.size, align_corners: bool = True, *, num_keypoints: int = 10, width: int = 64,
    max_width: int = 512, num_downs: int = 2, num_residuals: int = 6, motion_width: int = 64, motion_max_width: int = 1024,
    motion_blocks: int = 5, kernel: int = 7, scale: float = 0.25, variance: float = layers.VARIANCE, skip: bool = False,
) -> keras.Model:  # fmt: skip
    """The generator with its dense motion network: a source image in the pose of the driving keypoints.

    Args:
        size: of the images, int or (height, width).
        align_corners: see `layers.grid_sample`; True for the published checkpoints and for own training.
        num_keypoints: K.
        width, max_width, num_downs, num_residuals: channels of the first and of the widest convolution, halvings, residual blocks.
        motion_width, motion_max_width, motion_blocks: of the dense motion network's hourglass.
        kernel: side of the first and the last convolution and of those that end the dense motion network.
        scale: of the source in the dense motion network.
        variance: of the keypoints' heatmaps.
        skip: the warped source itself enters the last blend, see `_with_source`; not in the paper.

    Returns:
        A model from a dict with source (B, H, W, 3) in [0, 1], kp_source_value and kp_driving_value (B, K, 2),
        kp_source_jacobian and kp_driving_jacobian (B, K, 2, 2) to a dict with, for h = H scale and w = W scale:
        prediction (B, H, W, 3) in [0, 1]; occlusion (B, h, w, 1), 1 = visible; mask (B, h, w, K + 1);
        deformation (B, h, w, 2), where in the source to look; sparse_deformed (B, K + 1, h, w, 3).

    Raises:
        ValueError: a size that cannot be halved so often.
    """
    sides = hourglass.check_size(size, scale=scale, blocks=motion_blocks, what="the dense motion network")
    hourglass.check_size(size, scale=1, blocks=num_downs, what="the generator")
    source = keras.Input((*sides, 3), name="source")
    names = [f"kp_{who}_{what}" for who in ("source", "driving") for what in ("value", "jacobian")]
    shapes = {"value": (num_keypoints, 2), "jacobian": (num_keypoints, 2, 2)}
    points = {name: keras.Input(shapes[name.rpartition("_")[2]], dtype="float32", name=name) for name in names}
    small = layers.AntiAlias(scale, name="dense_motion_network_down")(source)
    x = hourglass.same_block(source, width, kernel, name="first")
    for i in range(num_downs):
        x = hourglass.down_block(x, min(max_width, width * 2 ** (i + 1)), name=f"down_blocks_{i}")

    widths = {"width": motion_width, "max_width": motion_max_width, "blocks": motion_blocks}
    outputs = motion.dense_motion(
        small, points, variance=variance, align_corners=align_corners, kernel=kernel, **widths
    )
    warp = layers.WarpFeatures(align_corners, "reflection" if skip else "zeros", name="warp")
    x = warp(x, outputs["deformation"], outputs["occlusion"])
    for i in range(num_residuals):
        x = hourglass.residual_block(x, name=f"bottleneck_r{i}")
    for i in range(num_downs):
        x = hourglass.up_block(x, min(max_width, width * 2 ** (num_downs - 1 - i)), name=f"up_blocks_{i}")
    if skip:
        outputs |= _with_source(x, source, outputs["deformation"], align_corners, kernel)
    else:
        outputs["prediction"] = hourglass.sigmoid(hourglass.conv(x, 3, kernel, name="final"), name="prediction")
    return keras.Model({"source": source, **points}, outputs, name="generator")


def _with_source(x, source, deformation, align_corners, kernel):
    """prediction = keep * warped + (1 - keep) * drawn: the decoder draws only what the warped source does not show.

    The mask keep (B, H, W, 1) begins near 0.88, so that gradients reach the motion through sharp pixels from the first step.
    """
    warped = layers.WarpFeatures(align_corners, "reflection", name="warp_source")(source, deformation)
    x = keras.layers.Concatenate(name="final_concat")([x, warped])
    drawn = hourglass.sigmoid(hourglass.conv(x, 3, kernel, name="final"), name="drawn")
    keep = keras.layers.Conv2D(
        1, kernel, padding="same", bias_initializer=keras.initializers.Constant(2.0), name="keep"
    )
    keep = hourglass.sigmoid(keep(x), name="keep_share")
    prediction = layers.Blend(name="prediction")(keep, warped, drawn)
    return {"prediction": prediction, "drawn": drawn, "warped": warped, "keep": keep}
