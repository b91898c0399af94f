"""A clip of one's own lends its motion to a picture: both beside the result, as one clip. See `tryout`."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import cv2
import keras
import numpy as np

from helpers import intake, pictures, video
from helpers.course import tryout, weights
from helpers.face_animation import data, runs, steps
from helpers.face_animation.animate import Animator, as_rgb, read_source
from helpers.face_animation.config import FaceAnimationConfig
from helpers.face_animation.evaluation import scoring
from helpers.face_animation.mini import dataset

LONGEST = 250  # frames of a clip that are taken
SIDE = 192  # pixels a picture is shown in, at least
WARNING = "Animate only people who have agreed to it, and say of every animation that it is one."
LIMITS = {  # source -> what networks that were trained on it cannot do
    "mini": "drawn puppets alone. A human face is something else to it: of that at best the head's motion is carried over.",
}


def answer(
    path: str | Path, network: Animator | Mapping[str, keras.Model] | None = None, config: FaceAnimationConfig | None = None,
    *, source: str | Path | None = None,
) -> tryout.Answer:  # fmt: skip
    """A picture that moves as a clip does: picture, clip and result side by side.

    Args:
        path: the driving clip: a video, GIF, folder of pictures, or row of square frames in one picture.
        network: an animator, or `kp_detector` and `generator` by these names; without it the published ones.
        config: with which they were trained, without it that of the published ones.
        source: a picture, or a clip whose first frame is taken; without it a drawn puppet that no training has seen.

    Raises:
        FileNotFoundError, ValueError: nothing there, another kind, or a clip of one frame; says what to do.
    """
    path, name = Path(path), intake.shown(Path(path).name)
    _check(path, name)
    if source is not None and not Path(source).is_dir():
        tryout.kind_of(source, intake.PICTURE, intake.VIDEO)
    config = config or weights.settings("face_animation")
    network = network or runs.load_published(config)
    if not isinstance(network, Animator):
        network = Animator(*(network[part] for part in runs.PARTS), batch_size=scoring.BATCH)
    picture = read_source(source) if source else drawn_puppet(config)
    side = tuple(max(SIDE, length) for length in network.size)
    timing, shown, seen = data.read_timing(path), [], []
    for frame in islice(data.stream_steadily(path, timing), LONGEST):  # large frames are not kept
        seen.append(data.resize(as_rgb(frame), network.size))
        shown.append(_sized(frame, side))
    if len(seen) < 2:
        raise ValueError(f"{name} has 1 frame, at least 2 are needed: take a clip")
    options = {name: getattr(config, name) for name in ("relative", "adapt_scale", "start")}  # as evaluate does
    drawn = network.animate(picture, seen, progress=True, **options)
    parts = zip(shown, drawn, strict=True)
    still = _sized(picture, side)
    frames = np.stack([np.concatenate([still, moving, _sized(result, side)], axis=1) for moving, result in parts])
    return tryout.Answer("clip", explain(name, timing, config, frame.shape), frames=frames, fps=timing.fps)


def _check(path: Path, name: str) -> None:
    """Raise if there is no clip; a picture is one if it holds frames side by side."""
    if path.is_dir() and not data.form_of(path):
        raise ValueError(f"{name} is a folder without pictures; expected a clip: name one file in it")
    if not path.is_dir() and tryout.kind_of(path, intake.VIDEO, intake.PICTURE) == intake.PICTURE:
        height, width = pictures.read_picture(path).shape[:2]
        if width <= height or width % height:
            raise ValueError(f"{name} is one picture; expected a clip: --source takes the picture that is to move")


def explain(name: str, timing: video.Timing, config: FaceAnimationConfig, shape: tuple[int, ...]) -> list[str]:
    """The lines of an answer: what is to be seen, what was done to the clip, what the networks know, and the warning."""
    lines = [f"left the picture, in the middle {name}, right the picture as it moves like that"]
    if (seconds := timing.times[-1] - timing.times[0]) * timing.fps >= LONGEST:
        lines.append(f"of its {seconds:.0f} seconds the first {LONGEST / timing.fps:.0f} are taken")
    if max(shape[:2]) > 1.1 * min(shape[:2]):
        lines.append(f"its {shape[1]}x{shape[0]} pixels are squeezed into a square: cut it to the face first")
    trained = LIMITS.get(config.source, f"clips of source {config.source}.")
    return [*lines, f"The network: trained on {trained}", WARNING]


def drawn_puppet(config: FaceAnimationConfig) -> np.ndarray:
    """The first puppet of mini's test, as it looks ahead: (size, size, 3) uint8."""
    number = steps.MINI["people"][0]
    return dataset.make_pair(number, number + 1, size=config.size, frames=2).source  # of two puppets: it looks ahead


def _sized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(as_rgb(frame), size[::-1], interpolation=cv2.INTER_CUBIC)
