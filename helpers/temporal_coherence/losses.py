"""Losses on embeddings of frames. All take `same` = 1 for frames that belong together; none normalises its input.

Conventions differ between papers: Hadsell et al. (2006) write Y = 0 for similar pairs, Caffe and this module y = 1.
The thesis took the formula of one and the labels of the other; `LinearContrastiveLoss(inverted=True)` shows what follows.
"""

from typing import Any

import keras
from keras import ops

from helpers.temporal_coherence.config import TemporalCoherenceConfig as Defaults

TINY = 1e-12  # the slope of a square root is infinite at 0, where frames of a still camera are


def squared_distance(a: Any, b: Any) -> Any:
    """Squared Euclidean distance along the last axis: (..., D) and (..., D) -> (...)."""
    return ops.sum(ops.square(a - b), axis=-1)


@keras.saving.register_keras_serializable("helpers")
class ContrastiveLoss(keras.losses.Loss):
    """Squared contrastive loss, 1/2 [s d^2 + (1 - s) max(0, margin - d)^2], averaged over the batch.

    Hadsell, Chopra and LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR 2006, with s = 1 for pairs
    that belong together, as in Caffe's ContrastiveLoss layer.

    Args:
        margin: distance beyond which a negative pair costs nothing.

    Call arguments:
        y_true: (B,) 1 where the pair belongs together, 0 where not.
        y_pred: (B, 2, D) embeddings of the pairs.
    """

    def __init__(self, margin: float = Defaults.margin, name: str = "contrastive_loss", **options: Any) -> None:
        super().__init__(name=name, **options)
        self.margin = margin

    def call(self, y_true: Any, y_pred: Any) -> Any:
        same = ops.reshape(y_true, (-1,))
        d2 = squared_distance(y_pred[:, 0], y_pred[:, 1])
        hinge = ops.maximum(0.0, self.margin - ops.sqrt(d2 + TINY))
        return 0.5 * (same * d2 + (1.0 - same) * ops.square(hinge))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "margin": self.margin}


@keras.saving.register_keras_serializable("helpers")
class LinearContrastiveLoss(keras.losses.Loss):
    """Unsquared contrastive loss, s d + (1 - s) max(0, margin - d), and the thesis's version with the sign of s turned.

    Args:
        margin: distance beyond which a negative pair costs nothing.
        inverted: exchange the two kinds of pairs, as the thesis's code did: neighbours are pushed apart and strangers
            pulled together. For the lesson, not for use.

    Call arguments: as `ContrastiveLoss`.
    """

    def __init__(
        self, margin: float, inverted: bool = False, name: str = "linear_contrastive_loss", **options: Any
    ) -> None:
        super().__init__(name=name, **options)
        self.margin = margin
        self.inverted = inverted

    def call(self, y_true: Any, y_pred: Any) -> Any:
        same = ops.reshape(y_true, (-1,))
        pull = 1.0 - same if self.inverted else same
        d = ops.sqrt(squared_distance(y_pred[:, 0], y_pred[:, 1]) + TINY)
        return pull * d + (1.0 - pull) * ops.maximum(0.0, self.margin - d)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "margin": self.margin, "inverted": self.inverted}


@keras.saving.register_keras_serializable("helpers")
class QuadrupletLoss(keras.losses.Loss):
    """Loss of four frames, ||a - c||^2 + max(0, ||a - v||^2 - ||a - o||^2 + margin), averaged over the batch.

    The consecutive frame c belongs at the anchor a, and a frame v of the same video nearer to it than a frame o of
    another one. Redondo-Cabrera and Lopez-Sastre, "Unsupervised learning from videos using temporal coherency deep
    networks", CVIU 179 (2019). Their released layer takes one hinge decision for the whole batch; this one decides per tuple.

    Args:
        margin: by how much (squared distance) the other video should be farther.

    Call arguments:
        y_true: ignored.
        y_pred: (B, 4, D) embeddings in the order anchor, consecutive, same video, other video.
    """

    def __init__(self, margin: float = 0.5, name: str = "quadruplet_loss", **options: Any) -> None:
        super().__init__(name=name, **options)
        self.margin = margin

    def call(self, y_true: Any, y_pred: Any) -> Any:
        anchor, consecutive, same_video, other_video = (y_pred[:, i] for i in range(4))
        order = squared_distance(anchor, same_video) - squared_distance(anchor, other_video)
        return squared_distance(anchor, consecutive) + ops.maximum(0.0, order + self.margin)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "margin": self.margin}


@keras.saving.register_keras_serializable("helpers")
class NTXentLoss(keras.losses.Loss):
    """Normalised temperature-scaled cross entropy: each frame must pick its partner among all other frames of the batch.

    Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020, equation 1. This loss
    works on cosines, so the lengths of the embeddings play no part.

    Args:
        temperature: divides the cosines; smaller makes hard negatives count more.

    Call arguments:
        y_true: ignored.
        y_pred: (B, 2, D) embeddings of B pairs that belong together.
    """

    def __init__(self, temperature: float = Defaults.temperature, name: str = "nt_xent_loss", **options: Any) -> None:
        super().__init__(name=name, **options)
        self.temperature = temperature

    def call(self, y_true: Any, y_pred: Any) -> Any:
        batch = ops.shape(y_pred)[0]
        flat = ops.concatenate([y_pred[:, 0], y_pred[:, 1]], axis=0)  # (2B, D)
        flat = ops.normalize(flat, axis=-1)
        logits = ops.matmul(flat, ops.transpose(flat)) / self.temperature
        logits = logits - 1e9 * ops.eye(2 * batch)  # a frame may not pick itself
        partner = ops.concatenate([ops.arange(batch, 2 * batch), ops.arange(batch)], axis=0)
        losses = ops.sparse_categorical_crossentropy(partner, logits, from_logits=True)
        return 0.5 * (losses[:batch] + losses[batch:])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}


def build_loss(
    name: str, margin: float = Defaults.margin, temperature: float = Defaults.temperature
) -> keras.losses.Loss:
    """The loss of a name of `config.LOSSES`.

    Args:
        margin: of the pair losses; the quadruplet's stays at its published 0.5.
        temperature: of NT-Xent.
    """
    makers = {
        "contrastive": lambda: ContrastiveLoss(margin),
        "linear": lambda: LinearContrastiveLoss(margin),
        "inverted": lambda: LinearContrastiveLoss(margin, inverted=True),
        "quadruplet": QuadrupletLoss,
        "nt_xent": lambda: NTXentLoss(temperature),
        "labels": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    }
    if name not in makers:
        raise ValueError(f"name must be one of {', '.join(makers)}. Received: name={name!r}")
    return makers[name]()
