"""Dense motion, generator and discriminator of the first-order motion model.

Siarohin et al., "First order motion model for image animation", 2019, arXiv 2003.00196.

Names: a layer with weights is called like the PyTorch module in the state dict, "_" for ".". So for a key of a checkpoint,
`model.get_layer(key.rpartition(".")[0].replace(".", "_"))` is its layer, and the last part says which weight:

    "weight", "bias" of a convolution          kernel (transposed to (2, 3, 1, 0)), bias
    "weight_orig", "weight_u", "weight_v"      kernel (same), u, v of `hourglass.SpectralConv2D` (v permuted like the kernel)
    "weight", "bias", "running_mean", "running_var" of a norm      gamma, beta, moving_mean, moving_variance
    "num_batches_tracked", and "down.weight"   none: `layers.AntiAlias` computes its kernel

So "dense_motion_network.hourglass.encoder.down_blocks.0.conv.weight" is the kernel of the layer
"dense_motion_network_hourglass_encoder_down_blocks_0_conv". All layers are in `model.layers`: no model is nested in another.
"""

import keras
from keras import ops

from helpers.face_animation import hourglass, layers
from helpers.face_animation.keypoints import build_heatmaps, build_keypoint_detector, check_size

__all__ = [
    "build_discriminator",
    "build_driver",
    "build_generator",
    "build_heatmaps",
    "build_keypoint_detector",
    "build_source_encoder",
]


@keras.saving.register_keras_serializable("helpers")
class SparseMotions(layers.Geometry):
    """What each keypoint alone says about the motion: places, the source warped by them, and heatmaps.

    T_0(z) = z; T_k(z) = J_source,k J_driving,k^-1 (z - driving_k) + source_k, to first order.

    Args:
        variance: of the heatmaps.
        align_corners: see `layers.grid_sample`.

    Call arguments:
        images: (B, h, w, 3), or (1, h, w, 3) for all; the same for the source's keypoints.
        source_value, driving_value: (B, K, 2).
        source_jacobian, driving_jacobian: (B, K, 2, 2).

    Returns:
        features (B, h, w, 4 (K + 1)): per k heatmap, red, green, blue; motions (B, h, w, K + 1, 2);
        sparse_deformed (B, K + 1, h, w, 3).
    """

    def __init__(self, variance=0.01, align_corners=True, **options):
        super().__init__(**options)
        self.variance = variance
        self.align_corners = align_corners

    def call(self, images, source_value, source_jacobian, driving_value, driving_jacobian):
        _, height, width, channels = images.shape
        count = driving_value.shape[1] + 1
        images, *keypoints = (
            ops.cast(x, "float32") for x in (images, source_value, source_jacobian, driving_value, driving_jacobian)
        )
        motions = self.motions(height, width, *keypoints)
        grid = ops.reshape(motions, (-1, height, width * count, 2))
        deformed = layers.grid_sample(images, grid, align_corners=self.align_corners)
        deformed = ops.reshape(deformed, (-1, height, width, count, channels))
        maps = [layers.gaussian_maps(points, height, width, self.variance) for points in (keypoints[2], keypoints[0])]
        heat = ops.pad(maps[0] - maps[1], [(0, 0), (0, 0), (0, 0), (1, 0)])
        features = ops.concatenate([heat[..., None], deformed], axis=-1)
        features = ops.reshape(features, (-1, height, width, count * (channels + 1)))
        return features, motions, ops.transpose(deformed, (0, 3, 1, 2, 4))

    def motions(self, height, width, source_value, source_jacobian, driving_value, driving_jacobian):
        """(B, height, width, K + 1, 2): where in the source each keypoint would fetch a pixel; the first one: at its place."""
        grid = ops.convert_to_tensor(layers.coordinate_grid(height, width)[None, :, :, None])
        matrices = layers.matmul_2x2(source_jacobian, layers.inverse_2x2(driving_jacobian))
        offset = grid - driving_value[:, None, None]
        moved = ops.sum(matrices[:, None, None] * offset[..., None, :], axis=-1) + source_value[:, None, None]
        return ops.concatenate([ops.zeros_like(moved[:, :, :, :1]) + grid, moved], axis=3)

    def get_config(self):
        return {**super().get_config(), "variance": self.variance, "align_corners": self.align_corners}


@keras.saving.register_keras_serializable("helpers")
class CombineMotions(layers.Geometry):
    """softmax(logits) (B, h, w, K + 1) and the mean motion (B, h, w, 2) with these weights, from motions (B, h, w, K + 1, 2)."""

    def call(self, logits, motions):
        mask = ops.softmax(ops.cast(logits, "float32"), axis=-1)
        return mask, ops.sum(mask[..., None] * motions, axis=-2)


def build_generator(
    size: int | tuple[int, int] = 256, align_corners: bool = True, *, num_keypoints: int = 10, width: int = 64,
    max_width: int = 512, num_downs: int = 2, num_residuals: int = 6, motion_width: int = 64, motion_max_width: int = 1024,
    motion_blocks: int = 5, scale: float = 0.25, variance: float = 0.01,
) -> keras.Model:  # fmt: skip
    """The generator with its dense motion network: a source image in the pose of the driving keypoints.

    Args:
        size: of the images, int or (height, width).
        align_corners: see `layers.grid_sample`; True for the published checkpoints and for own training.
        num_keypoints: K.
        width, max_width, num_downs, num_residuals: channels of the first and of the widest convolution, halvings, residual blocks.
        motion_width, motion_max_width, motion_blocks: of the dense motion network's hourglass.
        scale: of the source in the dense motion network.
        variance: of the keypoints' heatmaps.

    Returns:
        A model from a dict with source (B, H, W, 3) in [0, 1], kp_source_value and kp_driving_value (B, K, 2),
        kp_source_jacobian and kp_driving_jacobian (B, K, 2, 2) to a dict with, for h = H scale and w = W scale:
        prediction (B, H, W, 3) in [0, 1]; occlusion (B, h, w, 1), 1 = visible; mask (B, h, w, K + 1);
        deformation (B, h, w, 2), where in the source to look; sparse_deformed (B, K + 1, h, w, 3).

    Raises:
        ValueError: a size that cannot be halved so often.
    """
    sides = check_size(size, scale=scale, blocks=motion_blocks, what="the dense motion network")
    check_size(size, scale=1, blocks=num_downs, what="the generator")
    source = keras.Input((*sides, 3), name="source")
    names = [f"kp_{who}_{what}" for who in ("source", "driving") for what in ("value", "jacobian")]
    shapes = {"value": (num_keypoints, 2), "jacobian": (num_keypoints, 2, 2)}
    points = {name: keras.Input(shapes[name.rpartition("_")[2]], dtype="float32", name=name) for name in names}
    small = layers.AntiAlias(scale, name="dense_motion_network_down")(source)
    x = hourglass.same_block(source, width, 7, name="first")
    for i in range(num_downs):
        x = hourglass.down_block(x, min(max_width, width * 2 ** (i + 1)), name=f"down_blocks_{i}")

    motion = {"width": motion_width, "max_width": motion_max_width, "blocks": motion_blocks}
    outputs = _dense_motion(small, points, variance=variance, align_corners=align_corners, **motion)
    x = layers.WarpFeatures(align_corners, name="warp")(x, outputs["deformation"], outputs["occlusion"])
    for i in range(num_residuals):
        x = hourglass.residual_block(x, name=f"bottleneck_r{i}")
    for i in range(num_downs):
        x = hourglass.up_block(x, min(max_width, width * 2 ** (num_downs - 1 - i)), name=f"up_blocks_{i}")
    prediction = _sigmoid(hourglass.conv(x, 3, 7, name="final"), name="prediction")
    return keras.Model({"source": source, **points}, {"prediction": prediction, **outputs}, name="generator")


def _dense_motion(images, points, *, variance, align_corners, **motion):
    """occlusion, mask, deformation and sparse_deformed of `build_generator`."""
    name = "dense_motion_network"
    motions = SparseMotions(variance, align_corners, name=f"{name}_sparse_motions")
    features, motions, deformed = motions(images, *points.values())
    x = hourglass.hourglass(features, name=f"{name}_hourglass", **motion)
    logits = hourglass.conv(x, features.shape[-1] // 4, 7, name=f"{name}_mask")
    mask, deformation = CombineMotions(name=f"{name}_combine")(logits, motions)
    occlusion = _sigmoid(hourglass.conv(x, 1, 7, name=f"{name}_occlusion"), name="occlusion")
    return {"occlusion": occlusion, "mask": mask, "deformation": deformation, "sparse_deformed": deformed}


def _sigmoid(x, *, name):
    return keras.layers.Activation("sigmoid", dtype="float32", name=name)(x)


def build_source_encoder(generator: keras.Model) -> keras.Model:
    """The part of a generator that depends on the source image only: once per clip instead of once per frame.

    Returns:
        A model from source (B, H, W, 3) to a dict with features and small, for `build_driver`; shares the generator's weights.
    """
    return keras.Model(generator.input["source"], _cut(generator), name="source_encoder")


def build_driver(generator: keras.Model) -> keras.Model:
    """The rest of a generator, which shares its weights: one source, many driving frames at a time.

    Returns:
        A model from a dict with features and small (of `build_source_encoder`) and the four kp_... of the generator to the
        generator's outputs. The source's four parts may have batch size 1 whatever that of the driving keypoints.
    """
    old = {**_cut(generator), **generator.input}
    del old["source"]
    inputs = {name: keras.Input(part.shape[1:], dtype=part.dtype, name=name) for name, part in old.items()}
    known = {id(part): inputs[name] for name, part in old.items()}
    for layer in generator.layers:  # in the order of computation
        parts, results = keras.tree.flatten(layer.input), keras.tree.flatten(layer.output)
        if not parts or any(id(part) not in known for part in parts) or id(results[0]) in known:
            continue  # an input, of the source only, or done
        parts = [known[id(part)] for part in parts]
        joins = isinstance(layer, keras.layers.Add | keras.layers.Concatenate)
        found = layer(parts) if joins else layer(*parts)
        known |= dict(zip(map(id, results), keras.tree.flatten(found), strict=True))
    outputs = {name: known[id(part)] for name, part in generator.output.items()}
    return keras.Model(inputs, outputs, name="driver")


def _cut(generator):
    """The tensors through which all that comes from the source image goes."""
    warp = generator.get_layer("warp")
    return {"features": warp.input[0], "small": generator.get_layer("dense_motion_network_down").output}


def build_discriminator(
    size: int | tuple[int, int] = 256, *, num_keypoints: int = 10, use_keypoints: bool = True, spectral_norm: bool = False,
    scales: tuple[float, ...] = (1.0,), width: int = 32, max_width: int = 512, num_blocks: int = 4, variance: float = 0.01,
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
    options = {"padding": "valid", "spectral_norm": spectral_norm}
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
