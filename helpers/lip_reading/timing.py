"""Which frames of a clip a network sees: clips of any length and frame rate become `len_video` frames."""

import numpy as np

MODES = ("resample", "pad", "center")
RATE = 25.0  # frames per second at which "pad" and "center" look


def pick_frames(count: int, length: int, *, fps: float = RATE, mode: str = "resample") -> np.ndarray:
    """Numbers of the frames to take, so that the same film at 25, 30 and 60 frames per second gives the same pictures.

    Args:
        count: frames that the clip has.
        length: frames wanted.
        fps: frames per second of the clip.
        mode: "resample" spreads them evenly from the first to the last frame, so that every word fills the clip; "pad" keeps
            the tempo: frames at 25 per second from the beginning, the last repeated, or what is too long cut off; "center"
            does so around the middle of the clip, as LRW is cut, with the first frame repeated as well.

    Returns:
        (length,) int64, from 0 to count - 1.

    Raises:
        ValueError: no frames, or a mode that does not exist.
    """
    if mode not in MODES or count < 1 or length < 1 or not fps > 0:
        raise ValueError(
            f"received {count} frames, length {length}, fps {fps}, mode {mode!r}; allowed: at least 1 frame, length 1, fps above "
            f"0 and one of {', '.join(MODES)}"
        )
    if mode == "resample":
        return np.round(np.linspace(0, count - 1, length)).astype(np.int64)
    steps = np.arange(length, dtype=np.float64)
    if mode == "center":
        steps += (round(count * RATE / fps) - length) // 2
    middles = (steps + 0.5) / RATE  # seconds
    return np.clip(np.floor(middles * fps + 1e-9), 0, count - 1).astype(np.int64)


def frame_span(start: float, end: float, fps: float) -> tuple[int, int | None]:
    """First frame and the one after the last whose middle lies in [start, end) seconds; NaN means the clip's own limits."""
    first = 0 if np.isnan(start) else max(0, int(np.ceil(start * fps - 0.5 - 1e-6)))
    last = None if np.isnan(end) else max(first, int(np.ceil(end * fps - 0.5 - 1e-6)))
    return first, last
