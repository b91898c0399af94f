"""Animation of files: a picture and a clip in, a video out, frame by frame."""

import os
from pathlib import Path

import numpy as np

from helpers import video
from helpers.face_animation import data, visualiser
from helpers.face_animation.animate import Animator


def animate_file(
    source: str | os.PathLike, driving: str | os.PathLike, out: str | os.PathLike, animator: Animator, *,
    relative: bool = True, adapt_scale: bool = True, start: str | int = "first", fps: float | None = None,
    beside: bool = False, progress: bool = True,
) -> int:  # fmt: skip
    """Animate files: frames are read, drawn and written one after the other, so a clip may be long.

    Args:
        source: a picture, or a folder or video whose first frame is taken.
        driving: a clip in any form of `data`, or another video that FFmpeg reads.
        out: video to write, see `video.write_video`.
        animator: of the networks.
        relative, adapt_scale, start, progress: as in `animate`.
        fps: None keeps those of the driving video, 25 for a folder or strip.
        beside: write source, driving clip and animation side by side.

    Returns:
        The number of frames written.

    Raises:
        FileNotFoundError, ValueError: nothing there, or not readable.
    """
    picture = _read_source(Path(source))
    options = {"relative": relative, "adapt_scale": adapt_scale, "start": start, "progress": progress}
    frames = animator.frames(picture, data.stream(driving), **options)
    if beside:
        frames = visualiser.side_by_side(picture, data.stream(driving), frames)
    return video.write_video(out, frames, fps or data.frame_rate(driving))


def _read_source(path: Path) -> np.ndarray:
    return data.read_picture(path) if data.form_of(path) == "strip" else next(iter(data.stream(path)))
