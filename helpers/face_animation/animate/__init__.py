"""A picture moves like a clip: keypoints, the motion carried over, frames (Siarohin et al., 2019, arXiv 2003.00196)."""

import itertools
import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from helpers import pictures, runtime, video
from helpers.face_animation import data
from helpers.face_animation.animate import transfer
from helpers.face_animation.evaluation import visualiser
from helpers.face_animation.model import playing


def as_rgb(picture) -> np.ndarray:
    """A picture as (H, W, 3) uint8: grey becomes three equal channels, alpha is dropped.

    Raises:
        ValueError: not uint8, or no picture.
    """
    picture = np.asarray(picture)
    picture = picture[..., None] if picture.ndim == 2 else picture
    if picture.dtype != np.uint8 or picture.ndim != 3 or not 1 <= picture.shape[2] <= 4 or not picture.size:
        raise ValueError(
            "a picture must be uint8 of shape (H, W), (H, W, 3), or with alpha (H, W, 4). "
            f"Received: {picture.dtype} of shape {picture.shape}"
        )
    return picture[..., :3] if picture.shape[2] >= 3 else np.repeat(picture[..., :1], 3, axis=2)


class Animator:
    """A detector and a generator made ready once for any number of pictures and clips; they may be trained on in between.

    Args:
        kp_detector, generator: of `model`, of one size.
        batch_size: driving frames at a time; all batches have this size, so that everything is traced once.
        jit_compile: by XLA; "auto" does on a GPU. On a CPU it takes longer here: oneDNN's convolutions are the faster ones.

    Attributes:
        size: (height, width) of what comes out.

    Raises:
        ValueError: the two do not fit together.
    """

    def __init__(
        self, kp_detector: keras.Model, generator: keras.Model, *, batch_size: int = 4, jit_compile: bool | str = "auto"
    ) -> None:
        found, wanted = kp_detector.output["value"].shape[1], generator.input["kp_driving_value"].shape[1]
        self.size = tuple(generator.input["source"].shape[1:3])
        if found != wanted or tuple(kp_detector.input.shape[1:3]) != self.size:
            raise ValueError(
                "kp_detector and generator must have one size and number of keypoints. Received: "
                f"{tuple(kp_detector.input.shape[1:3])} with {found}, and {self.size} with {wanted}"
            )
        self.kp_detector, self.generator, self.batch_size = kp_detector, generator, batch_size
        driver = playing.build_driver(generator)
        self._driver = keras.Model(driver.input, {"prediction": driver.output["prediction"]}, name="driver")
        self._encoder = playing.build_source_encoder(generator)
        self._detector = keras.Model(kp_detector.input, kp_detector.output, name="detector")
        # TensorFlow takes the first traces of many networks for one traced again, and warns.
        logging.getLogger("tensorflow").setLevel("ERROR")
        for network in (self._driver, self._detector):
            network.compile(jit_compile=jit_compile)

    def keypoints(
        self, frames: Iterable[np.ndarray], *, total: int | None = None, progress: bool = False
    ) -> dict[str, np.ndarray]:
        """Keypoints of frames of any size: value (T, K, 2) in [-1, 1], jacobian (T, K, 2, 2); one batch is held at a time."""
        frames = runtime.progress(frames, total=total, label="keypoints", unit="frame") if progress else frames
        resized = (data.resize(as_rgb(frame), self.size) for frame in frames)
        parts = []
        while some := list(itertools.islice(resized, self.batch_size)):
            batch = ops.convert_to_tensor(_padded(np.stack(some), self.batch_size) / np.float32(255))
            found = self._detector.predict_on_batch(batch)
            parts.append({name: part[: len(some)] for name, part in found.items()})
        if not parts:
            raise ValueError("keypoints need at least one frame. Received: none")
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if not all(np.isfinite(part).all() for part in found.values()):
            raise ValueError("the keypoint detector gives NaN or infinity: load other weights, this training diverged")
        return found

    def draw(self, source: np.ndarray, source_points: dict, driving_points: dict) -> Iterator[np.ndarray]:
        """A picture (H, W, 3) uint8 in T poses, each (height, width, 3) uint8; points as of `keypoints`, for 1 and T frames."""
        image = data.resize(as_rgb(source), self.size)[None] / np.float32(255)
        fixed = self._encoder(ops.convert_to_tensor(image), training=False)
        fixed |= {f"kp_source_{name}": ops.convert_to_tensor(part) for name, part in source_points.items()}
        total = len(driving_points["value"])
        for start in range(0, total, self.batch_size):
            some = {name: part[start : start + self.batch_size] for name, part in driving_points.items()}
            some = {name: ops.convert_to_tensor(_padded(part, self.batch_size)) for name, part in some.items()}
            moving = {f"kp_driving_{name}": part for name, part in some.items()}
            prediction = self._driver.predict_on_batch({**fixed, **moving})["prediction"]
            if not np.isfinite(prediction).all():
                raise ValueError("the generator gives NaN or infinity: load other weights, this training diverged")
            yield from np.round(prediction[: total - start] * 255).astype(np.uint8)

    def frames(
        self, source: np.ndarray, driving: Iterable[np.ndarray], *, relative: bool = True, adapt_scale: bool = True,
        start: str | int = "first", progress: bool = False,
    ) -> Iterator[np.ndarray]:  # fmt: skip
        """What `animate` gives, frame after frame; the clip is read once, when the first one is asked for, and not kept."""
        _check_clip(driving)
        total = len(driving) if hasattr(driving, "__len__") else None
        found = self.keypoints(itertools.chain([source], driving), total=total and total + 1, progress=progress)
        still, points = ({name: part[span] for name, part in found.items()} for span in (slice(1), slice(1, None)))
        total = len(points["value"])
        if not total:
            raise ValueError("driving must have at least one frame. Received: none")
        if relative:
            first = transfer.starting_frame(start, still["value"][0], points["value"])
            initial = {name: part[first : first + 1] for name, part in points.items()}
            points = transfer.relative_motion(still, points, initial, adapt_scale=adapt_scale)
        drawn = self.draw(source, still, points)
        yield from runtime.progress(drawn, total=total, label="drawing", unit="frame") if progress else drawn

    def animate(
        self, source: np.ndarray, driving: Iterable[np.ndarray], relative: bool = True, adapt_scale: bool = True, **options: Any
    ) -> np.ndarray:  # fmt: skip
        """See `animate`."""
        return np.stack(list(self.frames(source, driving, relative=relative, adapt_scale=adapt_scale, **options)))

    def reconstruct(self, clip: np.ndarray) -> np.ndarray:
        """Redraw a clip (T, H, W, 3) uint8 from its first frame and the keypoints of all: how the model is measured."""
        _check_clip(clip)
        if not len(clip):
            raise ValueError("clip must have at least one frame. Received: none")
        return self.animate(clip[0], clip, relative=False)


def _padded(batch: np.ndarray, size: int) -> np.ndarray:
    """The last entry repeated up to `size`, so that no other size is traced."""
    return np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])


def _check_clip(frames) -> None:
    one = isinstance(frames, np.ndarray) and (frames.ndim < 3 or (frames.ndim == 3 and frames.shape[2] <= 4))
    if isinstance(frames, str | os.PathLike) or one:
        what = f"an array of shape {frames.shape}" if one else repr(str(frames))
        raise ValueError(
            f"a clip must be (T, H, W, 3) uint8 or an iterable of such frames. Received: {what}; "
            "for one picture pass picture[None], for a file use animate.animate_file"
        )


def animate(
    source: np.ndarray, driving: Iterable[np.ndarray], kp_detector: keras.Model, generator: keras.Model,
    relative: bool = True, adapt_scale: bool = True, *, start: str | int = "first", progress: bool = False,
) -> np.ndarray:  # fmt: skip
    """Let a picture move like a clip; for several clips make one `Animator`, for its first one takes seconds.

    Args:
        source: (H, W, 3) uint8 of any size; grey or with alpha too. The face should fill it as in the training clips.
        driving: (T, H, W, 3) uint8 or an iterable of such frames, of any size.
        kp_detector, generator: trained, see `model`.
        relative: add to the source's pose what changes in the clip, see `transfer.relative_motion`; else take the clip's
            keypoints as they are, which also takes over the shape of the face.
        adapt_scale: see `transfer.relative_motion`.
        start: the frame that counts as the source's pose, from which relative motion is told: "first", "best" (see
            `transfer.best_frame`) or a number. Forwards and backwards from it come the same frames, in the clip's order.
        progress: show bars.

    Returns:
        (T, height, width, 3) uint8 of the network's size.

    Raises:
        ValueError: what is no picture or clip, no frames, a bad `start`, networks that do not fit or that give NaN.
    """
    animator = Animator(kp_detector, generator)
    return animator.animate(source, driving, relative, adapt_scale, start=start, progress=progress)


def read_source(path: str | os.PathLike) -> np.ndarray:
    """A picture to animate, (H, W, 3) uint8: of a picture's file, or the first frame of a folder or video.

    Raises:
        FileNotFoundError, ValueError: nothing there, or not readable.
    """
    return pictures.read_picture(path) if data.form_of(path) == "strip" else next(iter(data.stream(path)))


def animate_file(
    source: str | os.PathLike, driving: str | os.PathLike, out: str | os.PathLike, animator: Animator, *,
    beside: bool = False, progress: bool = True, **options: Any,
) -> int:  # fmt: skip
    """Animate files: frames are read, drawn and written one after the other, so a clip may be long.

    Args:
        source: a picture, or a folder or video whose first frame is taken.
        driving: a clip in any form of `data`, or another video that FFmpeg reads.
        out: video to write, at the driving clip's rate (25 for a folder or strip, the usual one in time where it varies).
        beside: write source, driving clip and animation side by side.
        progress, **options: as in `animate`.

    Returns:
        The number of frames written.

    Raises:
        FileNotFoundError, ValueError: nothing there, or not readable.
    """
    picture = read_source(source)
    timing = data.read_timing(driving)
    frames = animator.frames(picture, data.stream_steadily(driving, timing), progress=progress, **options)
    if beside:
        frames = visualiser.side_by_side(picture, data.stream_steadily(driving, timing), frames)
    return video.write_video(out, frames, timing.fps)
