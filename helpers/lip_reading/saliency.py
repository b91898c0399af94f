"""Where a trained lip reader looks in one clip: parts held still (occlusion), and the slope of its score.

Clips are float32 (T, H, W, C) in [0, 1]. Models are those of `model.py`; say `logits=False` for one that ends in probabilities.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops


def probabilities(model: keras.Model, clips: np.ndarray, *, logits: bool = True, batch_size: int = 16) -> np.ndarray:
    """Probabilities (N, num_classes) of clips (N, T, H, W, C)."""
    outputs = model.predict(np.asarray(clips, "float32"), batch_size=batch_size, verbose=0)
    return np.asarray(ops.softmax(outputs)) if logits else outputs


def occlude(model: keras.Model, clip: np.ndarray, target: int, masks, *, logits: bool = True, batch_size: int = 16):
    """What is lost of a class's probability when parts of the clip stand still: float (M,), positive where a part counts.

    Within a mask every frame shows the clip's mean frame: the look stays, the motion is gone.

    Args:
        masks: M boolean arrays, each of a shape that broadcasts to (T, H, W); one batch is made at a time.
    """
    clip = np.asarray(clip, "float32")
    still = clip.mean(axis=0, keepdims=True)
    whole = probabilities(model, clip[None], logits=logits)[0, target]
    left = []
    for first in range(0, len(masks), batch_size):
        part = [np.where(np.asarray(mask)[..., None], still, clip) for mask in masks[first : first + batch_size]]
        left.append(probabilities(model, np.stack(part), logits=logits, batch_size=batch_size)[:, target])
    return whole - np.concatenate(left)


def occlude_time(model: keras.Model, clip: np.ndarray, target: int, *, width: int = 3, **options) -> np.ndarray:
    """Loss of probability (T,) when the `width` frames around each moment stand still; options as for `occlude`."""
    times = np.arange(len(clip))
    masks = [(np.abs(times - moment) <= (width - 1) / 2)[:, None, None] for moment in times]
    return occlude(model, clip, target, masks, **options)


def occlude_space(
    model: keras.Model, clip: np.ndarray, target: int, *, patch: int = 8, stride: int | None = None, **options
) -> np.ndarray:
    """Loss of probability (H, W) when a square patch of the picture stands still, as the mean over the patches on a pixel.

    Args:
        patch: side of the square in pixels.
        stride: pixels from one patch to the next; None for half a patch.
        options: as for `occlude`.
    """
    height, width = clip.shape[1:3]
    stride = stride or max(1, patch // 2)
    masks = []
    for top in _starts(height, patch, stride):
        for left in _starts(width, patch, stride):
            mask = np.zeros((1, height, width), bool)
            mask[:, top : top + patch, left : left + patch] = True
            masks.append(mask)
    losses, cover = occlude(model, clip, target, masks, **options), np.concatenate(masks)
    return np.tensordot(losses, cover, axes=1) / cover.sum(axis=0)


def _starts(length: int, patch: int, stride: int) -> Sequence[int]:
    """First pixels of the patches; the last one ends at the border."""
    last = max(length - patch, 0)
    return sorted({*range(0, last, stride), last})


class _Probe(keras.Model):
    """Adds a trainable picture, at first 0, to its input: what one step of SGD with rate 1 takes from it is the gradient.

    This is how Keras gives a gradient on every backend. The function hides the model, whose weights are not to be trained.
    """

    def __init__(self, function, shape):
        super().__init__(dtype="float32")
        self.function = function
        self.change = self.add_weight(shape=shape, initializer="zeros", name="change")

    def call(self, inputs):
        return self.function(inputs + self.change)


def gradient(model: keras.Model, clip: np.ndarray, target: int) -> np.ndarray:
    """Slope of the model's output `target` with respect to each value of the clip: float32 (T, H, W, C).

    The output is what the model ends in; take one with logits, because probabilities near 1 have hardly a slope.
    """
    probe = _Probe(lambda x: model(x, training=False)[:, target], np.shape(clip))
    probe.compile(keras.optimizers.SGD(1.0), loss=lambda _, output: -ops.mean(output), run_eagerly=True)
    probe.train_on_batch(np.asarray(clip, "float32")[None], np.zeros(1, "float32"))
    return ops.convert_to_numpy(probe.change)


def gradient_over_time(model: keras.Model, clip: np.ndarray, target: int) -> np.ndarray:
    """How much each frame can move the output `target`: mean absolute slope, float (T,)."""
    return np.abs(gradient(model, clip, target)).mean(axis=(1, 2, 3))
