"""Video files written, and clips made for a notebook; OpenCV's BGR stays inside this module."""

import base64
import contextlib
import errno
import html
import io
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

# FFmpeg prints what it thinks of a file from C; read at the first video, and inherited by worker processes.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np

from helpers import runtime
from helpers.video.reading import count_frames
from helpers.workspace import disk

CODECS = {".avi": ("XVID", "MJPG"), ".mp4": ("mp4v",), ".webm": ("VP80",)}  # the first that opens is taken
_OPENING = threading.Lock()  # two threads that silence at once could leave it silent for good


def write_video(
    path: str | os.PathLike, frames: Iterable[np.ndarray], fps: float = 25, *, codec: str | None = None
) -> int:
    """Write frames to a video; the file appears under its name only when it is whole and reads back. Returns how many.

    Args:
        path: the suffix decides the codec: .avi is Xvid (Motion JPEG for odd sizes), .mp4 MPEG-4, .webm VP8.
        frames: (H, W, 3) RGB uint8 arrays of one size.
        codec: a four-character code that overrides the suffix's, such as "MJPG".

    Raises:
        ValueError: unknown suffix or codec, a frame of another form (its index is named), an odd size that the codec
            cannot hold, no frames.
        OSError: what was written does not read back (a full disk shows only this way).
    """
    path = Path(path)
    suffix = path.suffix.lower()
    codecs = CODECS.get(suffix, ()) if codec is None else (codec,)
    if not codecs or any(len(name) != 4 for name in codecs):
        raise ValueError(
            f"cannot tell how to encode {path.name!r} with codec={codec!r}: "
            f"use one of the suffixes {', '.join(CODECS)}, or a codec of four characters such as 'MJPG'"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    # A folder of its own: FFmpeg needs the suffix, and a glob of *.avi must not find what a killed process left.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        temporary = Path(folder) / f"video{suffix}"
        count = _encode(temporary, frames, fps, codecs)
        _check_written(temporary, count, path)
        if suffix == ".webm":
            temporary.write_bytes(_without_random_ids(temporary.read_bytes()))
        disk.replace(temporary, path)
    return count


def tile(clips: Sequence[Iterable[np.ndarray]], columns: int | None = None) -> list[np.ndarray]:
    """Put clips of one frame size beside each other, row by row; shorter ones stand still on their last frame.

    Returns as many frames as the longest clip has, each (rows * H, columns * W, 3). ValueError: no clips, an empty clip, or frames
    of different sizes.

    Args:
        clips: sequences of (H, W, 3) RGB uint8 frames.
        columns: clips in a row, default all; places left over are black.
    """
    clips = [list(_checked(clip)) for clip in clips]
    columns = len(clips) if columns is None else columns
    if not clips or not all(clips) or columns < 1:
        raise ValueError(
            "tile needs at least one clip, one frame in each and columns >= 1. "
            f"Received: clips of {[len(clip) for clip in clips]} frames, columns={columns}"
        )
    list(_checked(clip[0] for clip in clips))  # the same size everywhere
    blank = [np.zeros_like(clips[0][0])]
    clips += [blank] * (-len(clips) % columns)
    mosaics = []
    for index in range(max(map(len, clips))):
        cells = [clip[min(index, len(clip) - 1)] for clip in clips]
        rows = [np.concatenate(cells[start : start + columns], axis=1) for start in range(0, len(cells), columns)]
        mosaics.append(np.concatenate(rows, axis=0))
    return mosaics


def clip_html(
    frames: Iterable[np.ndarray], *, fps: float = 10, width: int | None = None, max_bytes: int = 60_000, alt: str = ""
) -> str:
    """Encode frames as a looping VP8 WebM inside one HTML tag; the same frames give the same text on one machine.

    Where the text would be longer than `max_bytes`, the quality falls, the picture shrinks in steps, then every second
    frame goes, then three of four; the size on the page and the duration stay. ValueError: bad frames, or that is still too large.

    Args:
        frames: (H, W, 3) RGB uint8 arrays of one size; see `tile` for several clips.
        width: width on the page in pixels, default the frames' own.
        max_bytes: upper bound for the whole text, data URL included.
        alt: what a reader who cannot see the clip is told.
    """
    frames = list(_checked(frames))
    if not frames:
        raise ValueError("a clip needs at least one frame. Received: 0 frames")
    width = width or frames[0].shape[1]
    height = frames[0].shape[0] * width / frames[0].shape[1]
    alt = html.escape(alt or f"a moving clip of {len(frames)} frames", quote=True)
    for every in (1, 2, 4):
        for scale, crf in ((1, 16), (1, 40), (1, 56), (0.75, 48), (0.5, 40), (0.5, 56), (0.35, 40), (0.25, 40)):
            shape = height * scale, width * scale
            data = base64.b64encode(_webm(frames[::every], fps / every, shape, crf)).decode()
            text = (
                f'<video autoplay loop muted playsinline controls width="{width}" height="{height:.0f}" '
                f'aria-label="{alt}" src="data:video/webm;base64,{data}">{alt}</video>'
            )
            if len(text.encode()) <= max_bytes:
                return text
    raise ValueError(
        f"the clip takes {len(text.encode())} bytes even at a quarter of its size with every fourth frame, "
        f"allowed is max_bytes={max_bytes}: pass fewer frames or a smaller width"
    )


def show_clip(frames: Iterable[np.ndarray], **options):
    """`clip_html` as an object that a notebook shows when it ends a cell; takes the same options."""
    import IPython.display

    return IPython.display.HTML(clip_html(frames, **options))


@contextlib.contextmanager
def _silent_opencv() -> Iterator[None]:
    """OpenCV's own log off; its environment variable would come too late where somebody else imported cv2 first."""
    logging = cv2.utils.logging
    with _OPENING:
        level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
        try:
            yield
        finally:
            logging.setLogLevel(level)


def _checked(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    shape = None
    for index, frame in enumerate(frames):
        frame = np.asarray(frame)
        shape = shape or frame.shape
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.shape != shape:
            raise ValueError(
                f"frames must be RGB uint8 (H, W, 3), all of one size; frame 0 is {shape}. "
                f"Received: frame {index} of shape {frame.shape}, {frame.dtype}"
            )
        yield frame


def _encode(path: Path, frames: Iterable[np.ndarray], fps: float, codecs: Sequence[str]) -> int:
    writer, count = None, 0
    try:
        for count, frame in enumerate(_checked(frames), start=1):  # noqa: B007
            if writer is None:
                writer = _open_writer(path, frame.shape[:2], fps, codecs)
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    finally:
        if writer is not None:
            writer.release()
    if not count:
        raise ValueError("a video needs at least one frame. Received: 0 frames")
    return count


def _open_writer(path: Path, shape: tuple[int, int], fps: float, codecs: Sequence[str]) -> cv2.VideoWriter:
    height, width = shape
    for name in codecs:
        if (height % 2 or width % 2) and name != "MJPG":
            continue  # OpenCV would cut the last row or column off in silence
        backend = cv2.CAP_OPENCV_MJPEG if name == "MJPG" else cv2.CAP_FFMPEG
        code = cv2.VideoWriter_fourcc(*name)
        with _silent_opencv(), runtime.quiet_stderr():  # VP80 is greeted by a harmless line from C
            writer = cv2.VideoWriter(str(path.absolute()), backend, code, float(fps), (width, height))
        if writer.isOpened():
            return writer
    raise ValueError(
        f"this OpenCV cannot write {path.suffix} with codec {' or '.join(codecs)}, {width}x{height} at {fps} fps: "
        "sizes must be even except for MJPG in .avi; codecs that always work: "
        + ", ".join(f"{names[0]} in {suffix}" for suffix, names in CODECS.items())
    )


def _check_written(path: Path, count: int, target: Path) -> None:
    try:
        decoded = count_frames(path)
    except (FileNotFoundError, ValueError):
        decoded = 0
    if decoded != count:
        raise OSError(
            errno.EIO,
            f"{count} frames were written to {str(target)!r} and {decoded} read back, so it was not kept: "
            f"is the disk of {str(target.parent)!r} full?",
        )


def _without_random_ids(webm: bytes) -> bytes:
    """Give the track a constant number in place of FFmpeg's random one, so that equal frames make equal files.

    Matroska elements 73C5 (TrackUID) and 63C5 (TagTrackUID), each followed by 88 (8 bytes long) and the number.
    Replaced together with the number, since three bytes alone also turn up in compressed pictures.
    """
    start = webm.index(b"\x73\xc5\x88") + 3
    track = webm[start : start + 8]
    for element in (b"\x73\xc5\x88", b"\x63\xc5\x88"):
        webm = webm.replace(element + track, element + (1).to_bytes(8, "big"))
    return webm


def _webm(frames: Sequence[np.ndarray], fps: float, shape: tuple[float, float], crf: int) -> bytes:
    """VP8 at constant quality, of which OpenCV's writer knows only the best, three to four times as large."""
    import av

    height, width = (max(16, round(side / 2) * 2) for side in shape)  # VP8 wants even sides
    content = io.BytesIO()
    with av.open(content, "w", format="webm", options={"fflags": "+bitexact"}) as container:  # no random ids
        stream = container.add_stream("libvpx", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", 20_000_000
        stream.options = {"crf": str(crf), "deadline": "best", "auto-alt-ref": "1", "lag-in-frames": "16"}
        stream.codec_context.thread_count = 1
        for frame in frames:
            small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(small, format="rgb24")))
        container.mux(stream.encode())
    return content.getvalue()
