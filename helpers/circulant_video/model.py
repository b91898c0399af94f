"""From frames to probabilities: sampling of frames, one embedding per feature, fully connected layers, mixture of experts."""

import math

import keras
import numpy as np
from keras import ops

from helpers.circulant_video import layers
from helpers.circulant_video.config import CirculantVideoConfig as Defaults

EMBEDDINGS = {"dbof": layers.DBoF, "netvlad": layers.NetVLAD, "netfv": layers.NetFV}
PARTS = ("embedding", "fc", "moe")


@keras.saving.register_keras_serializable("helpers")
class FrameClassifier(keras.Model):
    """A functional model that refuses dequantised frames, which Keras would cast in silence."""

    def call(self, inputs, training=None, mask=None):
        found = keras.backend.standardize_dtype(inputs["frames"].dtype)
        if found != "uint8":
            raise TypeError(f"this model reads uint8 frames. Received: frames of type {found}; see data.quantize")
        return super().call(inputs, training=training, mask=mask)


def fully_connected(x, units, *, compact, rank, factors, diagonal, initializer, momentum, name):
    """relu6(BN(x W)) with a dense or a circulant W, or with a dense one of low rank, W = U V."""
    if compact:
        x = layers.CirculantDense(units, factors, diagonal, initializer, name=name)(x)
    else:
        if rank:
            narrow = keras.initializers.VarianceScaling(1.0, "fan_in", "untruncated_normal")
            x = keras.layers.Dense(rank, use_bias=False, kernel_initializer=narrow, name=f"{name}_rank")(x)
        normal = keras.initializers.RandomNormal(stddev=1.0 / math.sqrt(units))
        x = keras.layers.Dense(units, use_bias=False, kernel_initializer=normal, name=name)(x)
    x = keras.layers.BatchNormalization(momentum=momentum, name=f"{name}_norm")(x)
    return keras.layers.Activation("relu6", name=f"{name}_relu6")(x)


def build_classifier(
    feature_sizes=Defaults.feature_sizes, classes=Defaults.classes, embedding="dbof", clusters=Defaults.clusters,
    hidden=Defaults.hidden, mixtures=Defaults.mixtures, compact=(), *, factors=1, diagonal="learned",
    initializer="original", rank=None, gating=None, branches=None, bags=1, iterations=Defaults.iterations,
    momentum=layers.MOMENTUM, seed=None,
) -> keras.Model:  # fmt: skip
    """The classifier of Araujo et al., "Training compact deep learning models for video classification using circulant matrices".

    All bags of a batch pass the embedding's batch normalisation together; the original called it once per bag, so that its
    moving averages took `bags` times as many steps.

    Args:
        feature_sizes: widths of the features that stand side by side in a frame.
        classes: number of labels.
        embedding: "dbof", "netvlad" or "netfv".
        clusters: clusters of the first feature's embedding; the others have half as many.
        hidden: outputs of the fully connected layer after each embedding.
        mixtures: experts per class.
        compact: which parts are circulant, a subset of ("embedding", "fc", "moe"); "embedding" with "dbof" only.
        factors: circulant matrices per block in "embedding" and "fc".
        diagonal: of the circulant "fc": "learned", "fixed" or None.
        initializer: of the circulant "embedding" and "fc", see `layers.CirculantDense`.
        rank: of the dense "fc", whose matrix is then a product of two: what as few parameters can do without a circulant matrix.
        gating: context gating of the probabilities; by default as in the original, unless "moe" is compact.
        branches: how many features, from the first, are used; the length of a frame counts all. 1 is the original's `no_audio`.
        bags: sets of frames per video, whose embeddings are averaged; 10 in the original.
        iterations: frames per bag.
        momentum: of all batch normalisations; trainings of a few hundred steps need 0.9 to 0.99.
        seed: of the frame sampling.

    Returns:
        A model from {"frames": (B, T, sum of feature_sizes), "num_frames": (B,) int32} to (B, classes) probabilities, float32.

    Raises:
        ValueError: an unknown name, or a compact part that does not exist.
    """
    _check(embedding=embedding, compact=compact)
    frames = keras.Input((None, sum(feature_sizes)), dtype="uint8", name="frames")
    num_frames = keras.Input((), dtype="int32", name="num_frames")
    x = layers.SampleFrames(bags, iterations, seed, name="sample_frames")(frames, num_frames)
    parts = ops.split(x, np.cumsum(feature_sizes)[:-1].tolist(), axis=-1) if len(feature_sizes) > 1 else [x]
    vectors = []
    for k, part in enumerate(parts[:branches]):
        options = {"momentum": momentum, "name": f"{embedding}_{k}"}
        if embedding == "dbof":
            options |= {"compact": "embedding" in compact, "factors": factors, "initializer": initializer}
        pooled = EMBEDDINGS[embedding](clusters if k == 0 else clusters // 2, **options)(part)
        vector = ops.mean(ops.reshape(pooled, (-1, bags, pooled.shape[-1])), axis=1)  # over the bags of each video
        options = {"factors": factors, "diagonal": diagonal, "initializer": initializer, "rank": rank}
        options |= {"compact": "fc" in compact, "momentum": momentum, "name": f"fc_{k}"}
        vectors.append(fully_connected(vector, hidden, **options))
    x = keras.layers.Concatenate(name="features")(vectors) if len(vectors) > 1 else vectors[0]
    options = {"compact": "moe" in compact, "gating": "moe" not in compact if gating is None else gating}
    p = layers.MixtureOfExperts(classes, mixtures, momentum=momentum, name="experts", **options)(x)
    inputs = {"frames": frames, "num_frames": num_frames}
    return FrameClassifier(inputs, p, name=f"{embedding}_classifier")


def _check(*, embedding, compact):
    if embedding not in EMBEDDINGS:
        raise ValueError(f"embedding must be one of {', '.join(EMBEDDINGS)}. Received: embedding={embedding!r}")
    if isinstance(compact, str) or not set(compact) <= set(PARTS):
        raise ValueError(f"compact must be a tuple of some of {', '.join(PARTS)}. Received: compact={compact!r}")
    if "embedding" in compact and embedding != "dbof":
        raise ValueError(
            f"only the embedding 'dbof' has a circulant form. Received: embedding={embedding!r}, {compact=}"
        )
