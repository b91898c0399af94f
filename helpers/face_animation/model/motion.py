"""Dense motion: what each keypoint says about the motion, and the mask that chooses among them."""

import keras
from keras import ops

from helpers.face_animation import layers
from helpers.face_animation.model import hourglass


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

    def __init__(self, variance=layers.VARIANCE, align_corners=True, **options):
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


def dense_motion(images, points, *, variance, align_corners, kernel, **widths):
    """occlusion, mask, deformation and sparse_deformed of `build_generator`."""
    name = "dense_motion_network"
    motions = SparseMotions(variance, align_corners, name=f"{name}_sparse_motions")
    features, motions, deformed = motions(images, *points.values())
    x = hourglass.hourglass(features, name=f"{name}_hourglass", **widths)
    logits = hourglass.conv(x, features.shape[-1] // 4, kernel, name=f"{name}_mask")
    mask, deformation = CombineMotions(name=f"{name}_combine")(logits, motions)
    occlusion = hourglass.sigmoid(hourglass.conv(x, 1, kernel, name=f"{name}_occlusion"), name="occlusion")
    return {"occlusion": occlusion, "mask": mask, "deformation": deformation, "sparse_deformed": deformed}
