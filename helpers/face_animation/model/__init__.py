"""The networks of the first-order motion model; the three builders by the names that others call.

Names: a layer with weights is called like the PyTorch module in the state dict, "_" for ".". So for a key of a checkpoint,
`model.get_layer(key.rpartition(".")[0].replace(".", "_"))` is its layer, and the last part says which weight:

    "weight", "bias" of a convolution          kernel (transposed to (2, 3, 1, 0)), bias
    "weight_orig", "weight_u", "weight_v"      kernel (same), u, v of `hourglass.SpectralConv2D` (v permuted like the kernel)
    "weight", "bias", "running_mean", "running_var" of a norm      gamma, beta, moving_mean, moving_variance
    "num_batches_tracked", and "down.weight"   none: `layers.AntiAlias` computes its kernel

So "dense_motion_network.hourglass.encoder.down_blocks.0.conv.weight" is the kernel of the layer
"dense_motion_network_hourglass_encoder_down_blocks_0_conv". All layers are in `model.layers`: no model is nested in another.
"""

from helpers.face_animation.model.discriminator import build_discriminator
from helpers.face_animation.model.generator import build_generator
from helpers.face_animation.model.keypoints import build_keypoint_detector

__all__ = ["build_discriminator", "build_generator", "build_keypoint_detector"]
