"""Frames and their times out of a video file, by FFmpeg through PyAV."""

import contextlib
import math
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from fractions import Fraction
from numbers import Integral
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from helpers import intake
from helpers.video.timing import Timing

Name = str | os.PathLike
# Titles that are not UTF-8 are no reason to refuse a film; PyAV 19 needs not be told so.
_TAGS = {"metadata_errors": "replace"} if "metadata_errors" in (av.open.__doc__ or "") else {}


def read_frames(path: Name, step: int = 1, size: int | Sequence[int] | None = None) -> Iterator[np.ndarray]:
    """Decode every `step`-th frame of a video, upright, one at a time.

    The checks and the first frame happen now, the rest while iterating. The file is closed when the iterator ends, is
    closed or is dropped. A truncated file gives the frames that decode.

    Args:
        step: 1 gives every frame, 10 gives frames 0, 10, 20, ...; frames between are decoded but never converted.
        size: None keeps the size; an int or (height, width) in pixels is resized to, bilinear, aspect ratio not kept.

    Returns:
        Iterator of (H, W, 3) RGB uint8 arrays; three equal channels for a grey video.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, a picture, not a video, no frame decodes, or bad `step` or `size`.
    """
    if not isinstance(step, Integral) or isinstance(step, bool) or step < 1:
        raise ValueError(f"step must be an integer of at least 1. Received: step={step!r}")
    return _started(_wanted_only(scan_frames(path, lambda index: index % step == 0, size=size)))


def scan_frames(
    path: str | os.PathLike,
    wanted: Callable[[int], bool],
    *,
    size: int | Sequence[int] | None = None,
    header: dict | None = None,
) -> Iterator[tuple[int, np.ndarray | None]]:
    """Go through all frames of a video and convert those that are wanted; `read_frames` for any choice of frames. Raises as that.

    Args:
        wanted: from the number of a frame, counted from 0, to whether its picture is needed.
        header: a dict that gets what `header_info` tells, and `seconds`, a list with the time of each frame so far (NaN where
            the file tells none); `Timing.of` makes a whole of it.

    Returns:
        Iterator of (number, (H, W, 3) RGB uint8 or None if not wanted), up to the last frame that decodes.
    """
    return _started(_scan(path, wanted, None if size is None else height_width(size), {} if header is None else header))


def count_frames(path: str | os.PathLike) -> int:
    """Count the frames that decode; the header's number is only a claim (a cut file keeps it). Raises as `read_frames`."""
    return sum(1 for _ in scan_frames(path, lambda _: False))


def read_timing(path: str | os.PathLike) -> Timing:
    """When each frame of `read_frames` is shown, by decoding all of them: the header is no basis. Raises as `read_frames`."""
    header: dict = {}
    for _ in scan_frames(path, lambda _: False, header=header):
        pass
    return Timing.of(header)


def header_info(path: str | os.PathLike) -> dict:
    """What the file says of itself, only its first frame decoded: never a basis for counting or for times. Raises as `read_frames`.

    Returns:
        `frames` (claimed, may be wrong, 0 if untold), `fps`, `width` and `height` in pixels (of the upright picture),
        `rotation` in degrees clockwise, `fourcc`.
    """
    header: dict = {}
    scan_frames(path, bool, header=header).close()
    return {key: header[key] for key in ("frames", "fps", "width", "height", "rotation", "fourcc")}


def _started(frames: Generator) -> Generator:
    """Go to the empty first yield: the checks run now, and close() will reach the clean-up (else it would not)."""
    next(frames)
    return frames


def _wanted_only(frames: Generator) -> Generator:
    with contextlib.closing(frames):
        yield
        yield from (frame for _, frame in frames if frame is not None)


def _scan(path: Name, wanted: Callable[[int], bool], shape: tuple[int, int] | None, header: dict) -> Generator:
    with _open(path) as container:
        moving_webp = container.format.name == "webp_pipe"  # FFmpeg knows only pictures that stand still
        frames, reformatter = _webp_frames(path) if moving_webp else _decoded(container), VideoReformatter()
        frame = next(frames, None)
        if frame is None:
            raise ValueError(_no_video(path))
        header |= _read_header(container, frame)
        yield
        index = 0
        while frame is not None:
            header["seconds"].append(math.nan if frame.pts is None else frame.pts * header["tick"] - header["zero"])
            yield index, _picture(frame, reformatter, shape) if wanted(index) else None
            frame, index = next(frames, None), index + 1


def _decoded(container: "av.container.InputContainer") -> Iterator["av.VideoFrame"]:
    """Frames in order of showing. Behind a packet that the decoder refuses it goes on at the next key frame: what comes
    between shows changes of a picture that was lost."""
    stream = container.streams.best("video")
    if stream is None or stream.codec_context is None:
        return
    stream.codec_context.thread_count = 1  # files run in parallel instead
    packets, torn, stored = container.demux(stream), False, _index_of_avi(container, stream)
    while True:
        try:
            packet = next(packets)
            torn = torn and not packet.is_keyframe
            if stored and packet.pos in stored:
                packet.pts = packet.dts = stored[packet.pos]
            yield from (() if torn else packet.decode())
        except StopIteration:
            return
        except av.error.InvalidDataError:
            torn = True
        except (av.error.FFmpegError, NotImplementedError) as error:  # no decoder, or the file ends inside a block
            if isinstance(error, OSError):
                _read_through(container.name)
            return


def _index_of_avi(container: "av.container.InputContainer", stream: "av.VideoStream") -> dict[int, int]:
    """Where in the file which frame stands. AVI's packets have no times: FFmpeg counts them, and forgets those that it skips."""
    if container.format.name != "avi":
        return {}
    return {entry.pos + 8: entry.timestamp for entry in stream.index_entries}  # behind the chunk's name and length


def _webp_frames(path: str | os.PathLike) -> Iterator["av.VideoFrame"]:
    milliseconds = 0
    with Image.open(path) as film:
        for number in range(film.n_frames):
            film.seek(number)
            frame = av.VideoFrame.from_image(film.convert("RGB"))
            frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
            milliseconds += film.info["duration"]
            yield frame


def _picture(frame: "av.VideoFrame", reformatter: VideoReformatter, shape: tuple[int, int] | None) -> np.ndarray:
    picture = reformatter.reformat(frame, format="rgb24", interpolation="BICUBIC", threads=1).to_ndarray()
    if turn := _quarter_turns(frame):
        picture = np.ascontiguousarray(np.rot90(picture, -turn))
    return picture if shape is None else cv2.resize(picture, shape[::-1])  # OpenCV wants (width, height)


def _quarter_turns(frame: "av.VideoFrame") -> int:
    """How often the camera's note says to turn the picture clockwise by 90 degrees."""
    return round(-frame.rotation / 90) % 4


def _read_header(container: "av.container.InputContainer", frame: "av.VideoFrame") -> dict:
    stream = container.streams.best("video")
    fps = 0.0 if container.format.name == "webp_pipe" else float(stream.average_rate or stream.guessed_rate or 0)
    seconds = container.duration / av.time_base if container.duration else 0
    turn = _quarter_turns(frame)
    height, width = (frame.width, frame.height) if turn % 2 else (frame.height, frame.width)
    return {
        "frames": stream.frames or int(seconds * fps + 0.5),
        "fps": fps,
        "width": width,
        "height": height,
        "rotation": 90 * turn,
        "fourcc": stream.codec_context.codec_tag.rstrip("\0"),
        "seconds": [],  # of each frame so far
        "tick": float(frame.time_base),
        "zero": _zero(container, frame, fps),
    }


def _zero(container: "av.container.InputContainer", frame: "av.VideoFrame", fps: float) -> float:
    """What players call 0: the start of the earliest stream. AVI stores no times of showing, so that its pictures seem to come
    a few frames late where later frames were stored before them."""
    start, first = (container.start_time or 0) / av.time_base, frame.time or 0.0
    return first if container.format.name == "avi" and (first - start) * fps < 3.5 else start


def height_width(size: int | Sequence[int]) -> tuple[int, int]:
    """A size in pixels as two numbers; ValueError: it is none."""
    sides = (size, size) if isinstance(size, Integral) else tuple(size) if isinstance(size, Sequence) else ()
    if len(sides) != 2 or not all(isinstance(side, Integral) and side > 0 for side in sides):
        raise ValueError(f"size must be a positive int or (height, width) in pixels. Received: size={size!r}")
    return int(sides[0]), int(sides[1])


def _open(path: str | os.PathLike) -> "av.container.InputContainer":
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no video at {str(path)!r}: check the name, or run the step that makes it")
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is a folder, expected one video file: pass the files in it one by one")
    if intake.sniff(path) == intake.PICTURE:  # FFmpeg would call it a video of one frame
        raise ValueError(f"{str(path)!r} is a picture, expected a video: read it with pictures.read_picture")
    try:
        # FFmpeg takes what stands before a colon in a relative name for a protocol.
        return av.open(str(path.absolute()), **_TAGS)
    except av.error.FFmpegError:  # its words say less, or that the disk fails where the file just ends
        raise ValueError(_no_video(path)) from None


def _read_through(path: str | os.PathLike) -> int:
    """Bytes of a file, all read: FFmpeg takes a disk that fails for the end of the file, here it is an OSError."""
    with Path(path).open("rb") as file:
        return sum(map(len, iter(lambda: file.read(1 << 20), b"")))


def _no_video(path: str | os.PathLike) -> str:
    size, kind = _read_through(path), intake.describe(path)
    why = f"it is {kind}; expected a video"
    if kind in ("", f"a {intake.VIDEO}"):
        why = "it is no video, is cut off, or its codec is unknown to this FFmpeg; download it again, or convert it with ffmpeg"
    return f"not one frame of {str(path)!r} ({size} bytes) decodes: {why}"
