"""From face points to lip pictures: level eyes, the mouth in the middle, one scale per clip that comes from the eyes.

So an open mouth is larger than a closed one. A box around the lips, as OpenAV cuts it, grows with the mouth and hides just that.
"""

import os
from collections import namedtuple
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from helpers.lip_reading import faces
from helpers.lip_reading.config import LipReadingConfig
from helpers.video.reading import height_width

SIDE = 1.5  # width of the lip picture, in distances of the eyes
WINDOWS = {"grid": (80, 190, 220, 236), "lrw": (79, 115, 175, 211)}  # x1, y1, x2, y2 of the mouth in their frames


# How lips are cut out of a clip: those fields of the configuration, which says what they mean, that worker processes need.
Cut = namedtuple("Cut", "lips window size_lips padding_lips channels_lips swap_channels min_found")


def cut_lips(
    clip: Iterable[np.ndarray], cut: Cut | LipReadingConfig, *, points: np.ndarray | None = None,
    model_path: str | os.PathLike | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:  # fmt: skip
    """Cut the lips out of a clip as the configuration wants it.

    Args:
        clip: frames (H, W, 3) uint8, RGB; gone through twice where faces are looked for.
        points: (T, 5, 2) where they are known, NaN where no face was, instead of a detector.
        model_path: see `faces.find_face_points`.

    Returns:
        Arrays `frames` (T, height, width, channels) uint8, `found` (T,) bool, `points` (T, 5, 2) float32 as tracked (no rows where
        nothing was looked for); and measures: those of `faces.statistics`, redness and note ("" or a word on other faces).

    Raises:
        ValueError: no frame, or too few frames with a face.
    """
    size, note = (cut.size_lips.height, cut.size_lips.width), ""
    if cut.lips == "detect":
        if points is None:
            points, note = faces.follow_face(faces.find_faces(frame, model_path) for frame in clip)
        measures = faces.statistics(points)
        if not measures["found"] or measures["share"] < cut.min_found:
            raise ValueError(
                f"a face was found in {measures['found']} of {measures['frames']} frames ({measures['share']:.0%}); allowed: "
                f"at least {cut.min_found:.0%} (min_found). Clips that show only a mouth need lips: cropped"
            )
        tracked, found = faces.track_points(points), faces.found_mask(points)
        frames = crop_lips(clip, tracked, size)
    else:
        window = (cut.window or WINDOWS["grid"]) if cut.lips == "fixed" else None
        frames, tracked = cut_fixed(clip, window, size, padding=cut.padding_lips), np.zeros((0, 5, 2), np.float32)
        found = np.ones(len(frames), bool)
        nothing = np.full((len(frames), 5, 2), np.nan)
        measures = faces.statistics(nothing) | {"found": len(frames), "share": 1.0, "longest_gap": 0}
    measures |= {"redness": round(redness(frames), 4), "note": note}
    frames = to_grey(frames) if cut.channels_lips == 1 else frames
    return {"frames": frames, "found": found, "points": tracked}, measures


def crop_lips(frames: Iterable[np.ndarray], points: np.ndarray, size: int | Sequence[int]) -> np.ndarray:
    """Cut the mouth out of every frame: eyes level, mean of the mouth's corners in the middle, one scale per clip.

    The picture is `SIDE` times the clip's median eye distance wide; beyond the frame its border is repeated.

    Args:
        frames: T frames (H, W, 3) uint8, RGB.
        points: (T, 5, 2) x, y in pixels in YuNet's order, without gaps (see `faces.track_points`).
        size: of the pictures, an int or (height, width) in pixels.

    Returns:
        (T, height, width, 3) uint8.

    Raises:
        ValueError: other numbers of frames than of points, gaps, or eyes closer than 2 pixels.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 3 or points.shape[1:] != (5, 2) or not np.isfinite(points).all():
        raise ValueError(f"points must be (T, 5, 2) without gaps (track_points fills them). Received: {points.shape}")
    height, width = height_width(size)
    eyes = points[:, 1] - points[:, 0]  # from the person's right eye to the left: to the picture's right
    distance = float(np.median(np.hypot(*eyes.T)))
    if distance < 2:
        raise ValueError(
            f"points: received eyes {distance:.1f} pixels apart; allowed: at least 2, so that lips can be seen"
        )
    scale = width / (SIDE * distance)
    centres, angles = points[:, 3:].mean(axis=1), np.arctan2(eyes[:, 1], eyes[:, 0])
    rows = [
        _cut_window(frame, centre, angle, scale, (height, width))
        for frame, centre, angle in zip(_checked(frames, len(points)), centres, angles, strict=True)
    ]
    return np.stack(rows)


def _checked(frames: Iterable[np.ndarray], count: int) -> Iterable[np.ndarray]:
    number = 0
    for number, frame in enumerate(frames, 1):
        if number <= count:
            yield frame
    if number != count:
        raise ValueError(f"frames: received {number} frames and points of {count}; allowed: as many points as frames")


def _cut_window(frame: np.ndarray, centre: np.ndarray, angle: float, scale: float, size: tuple[int, int]) -> np.ndarray:
    """One turned and scaled window. What shrinks is drawn larger first and averaged, or fine lines would flicker."""
    more = max(1, round(1 / scale))
    height, width = size[0] * more, size[1] * more
    cos, sin = np.cos(angle) * scale * more, np.sin(angle) * scale * more
    turn = np.array([[cos, sin], [-sin, cos]])
    move = np.array([(width - 1) / 2, (height - 1) / 2]) - turn @ centre
    cut = cv2.warpAffine(frame, np.column_stack([turn, move]), (width, height), borderMode=cv2.BORDER_REPLICATE)
    return cut if more == 1 else cv2.resize(cut, size[::-1], interpolation=cv2.INTER_AREA)


def fit(picture: np.ndarray, size: int | Sequence[int], *, padding: bool = True) -> np.ndarray:
    """A picture of any shape in the size that the network wants.

    Args:
        picture: (H, W, 3) or (H, W) uint8.
        size: an int or (height, width) in pixels.
        padding: True keeps the aspect ratio and fills up with black on both sides; False stretches.

    Returns:
        (height, width, 3) or (height, width) uint8.
    """
    height, width = height_width(size)
    shrink = min(height / picture.shape[0], width / picture.shape[1])
    inner = (height, width)
    if padding:
        inner = tuple(max(1, min(full, round(side * shrink))) for side, full in zip(picture.shape, inner, strict=False))
    method = cv2.INTER_AREA if shrink < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(picture, inner[::-1], interpolation=method)
    canvas = np.zeros((height, width, *picture.shape[2:]), np.uint8)
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    canvas[top : top + inner[0], left : left + inner[1]] = resized
    return canvas


def cut_fixed(
    frames: Iterable[np.ndarray], window: Sequence[int] | None, size: int | Sequence[int], *, padding: bool = True
) -> np.ndarray:
    """Cut the same window out of every frame, as for GRID and LRW (`WINDOWS`), whose faces sit still; no detector needed.

    Args:
        frames: (H, W, 3) uint8.
        window: x1, y1, x2, y2 in pixels, the last two excluded; None is the whole frame.
        size, padding: see `fit`.

    Returns:
        (T, height, width, 3) uint8.

    Raises:
        ValueError: the window does not lie within the frames, or there are none.
    """
    rows = []
    for frame in frames:
        x1, y1, x2, y2 = window or (0, 0, frame.shape[1], frame.shape[0])
        if not (0 <= x1 < x2 <= frame.shape[1] and 0 <= y1 < y2 <= frame.shape[0]):
            inside = f"within {frame.shape[1]} x {frame.shape[0]} pixels"
            raise ValueError(f"window: received {list(window)}; allowed: x1, y1, x2, y2 {inside}")
        rows.append(fit(frame[y1:y2, x1:x2], size, padding=padding))
    if not rows:
        raise ValueError("received no frame between start and end; allowed: at least one")
    return np.stack(rows)


def to_grey(frames: np.ndarray) -> np.ndarray:
    """(T, H, W, 3) RGB uint8 as (T, H, W, 1), with the weights of television (0.299 red, 0.587 green, 0.114 blue)."""
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])[..., None]


def redness(frames: np.ndarray) -> float:
    """How much more red than blue lips and skin are: mean (red - blue) / mean (red + blue), from -1 to 1.

    Skin of any colour reflects more red than blue, and lips still more. So a clip of a mouth in which it is clearly below
    zero was written with red and blue exchanged: OpenCV's order taken for RGB.
    """
    red, blue = (float(frames[..., channel].mean()) for channel in (0, 2))
    return (red - blue) / max(red + blue, 1e-9)
