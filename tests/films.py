"""Films drawn for tests by FFmpeg itself, through PyAV: frames that carry their number, at chosen times, in chosen files."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

JITTER = (
    np.cumsum([0, 37, 41, 33, 38, 36, 35, 40, 37, 33, 41, 37, 37, 35, 39, 36, 38, 37, 36, 38, 37]) / 1000
)  # about 27 a second
SLOW_THEN_FAST = np.concatenate([np.arange(10) * 0.1, 1.0 + 0.02 * np.arange(50)])  # 100 ms, then 20 ms


def numbered(index: int, height: int = 120, width: int = 160) -> np.ndarray:
    """A red upper half, and below it the index as eight black or white blocks: both survive compression."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[: height // 2, :, 0] = 255
    for bit in range(8):
        frame[height // 2 :, bit * width // 8 : (bit + 1) * width // 8] = 255 * (index >> bit & 1)
    return frame


def number_of(frame: np.ndarray) -> int:
    """The number that a frame of `numbered` carries, of any size."""
    height, width = frame.shape[:2]
    row = frame[height * 3 // 4].mean(axis=-1)
    return sum(int(row[int((bit + 0.5) * width / 8)] > 127) << bit for bit in range(8))


def film(
    path: Path, frames: Iterable[np.ndarray], times: Sequence[float], *, codec: str = "libx264", pixels: str = "yuv420p",
    rate: int = 25, tick: int = 1000, live: bool = False, **options: object,
) -> Path:  # fmt: skip
    """Write frames that begin to show at `times` (seconds), kept to 1 / tick; `rate` is what the header claims."""
    with av.open(str(path), "w", options={"live": "1"} if live else {}) as container:
        stream = container.add_stream(codec, rate=rate, options={name: str(value) for name, value in options.items()})
        stream.codec_context.time_base = Fraction(1, tick)
        stream.pix_fmt = pixels
        for frame, time in zip(frames, times, strict=True):
            if not stream.codec_context.is_open:
                stream.height, stream.width = frame.shape[:2]
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = round(time * tick), Fraction(1, tick)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def damaged(path: Path, *, share: float = 0.5, count: int = 200) -> Path:
    """Put `count` random bytes into a file, `share` of the way through it."""
    content = bytearray(path.read_bytes())
    start = int(len(content) * share)
    content[start : start + count] = np.random.default_rng(0).bytes(count)
    path.write_bytes(content)
    return path
