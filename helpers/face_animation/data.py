"""Clips of faces on disk: the table of a folder, and the frames of a clip in any of four forms.

A clip is a folder of pictures, a video, an animated .gif, or one picture with all frames side by side. A folder is
often called `....mp4` too: what a clip is, is looked up, never guessed from its name. Nothing here needs Keras.
"""

import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from helpers import intake, parallel, video
from helpers.face_animation.splits import COPY, person_of, sample_groups, split_names
from helpers.pictures import read_picture

__all__ = ["sample_groups"]  # its place for others

NAME = re.compile(r"^(?P<person>[^#]+)#(?P<video>.+)#(?P<start>\d{6})#(?P<end>\d{6})(?:\.\w+)?$")
FORMS = {intake.VIDEO: "video", intake.PICTURE: "strip"}
PICTURES = intake.SUFFIXES[intake.PICTURE].split()
LONGEST = 100  # times a film may grow where its frames are seen for longer
COLUMNS = ["clip", "person", "video", "start", "end", "partition", "path", "form", "frames", "error", "note"]


def clip_name(person: str, video_id: str, start: int, end: int) -> str:
    """The name that a clip of VoxCeleb gets: "id10001#7gWzIy6yIIk#000012#000234.mp4"."""
    return f"{person}#{video_id}#{start:06d}#{end:06d}.mp4"


def parse_name(name: str) -> tuple[str, str, int, int]:
    """Person, video, first frame and end of a clip from its name; Drive's " (1)" is overlooked.

    A name of another form gives (what stands before the first "#" or the suffix, "", -1, -1).
    """
    plain = COPY.sub("", name)
    match = NAME.match(plain)
    if match is None:
        return person_of(Path(plain).stem if "#" not in plain else plain), "", -1, -1
    return match["person"], match["video"], int(match["start"]), int(match["end"])


def form_of(path: str | os.PathLike) -> str | None:
    """ "folder", "video", "gif", "strip", or None if it is no clip at all."""
    path = Path(path)
    if path.name.startswith("."):
        return None
    if path.is_dir():
        return "folder" if any(_is_picture(child) for child in path.iterdir()) else None
    kind = intake.sniff(path) if path.is_file() else ""
    return "gif" if kind == intake.VIDEO and path.suffix.lower() == ".gif" else FORMS.get(kind)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower().removeprefix(".") in PICTURES and not path.name.startswith(".")


def find_clips(root: str | os.PathLike | intake.Walk, *, jobs: int = 1) -> pd.DataFrame:
    """List the clips below `root/train` and `root/test`, or below `root` itself, of which a fifth then becomes the test.

    A deeper folder with pictures is a clip, and one with clips gives them its name: id1/holiday/a.mp4 is "id1#holiday#a.mp4".

    Args:
        root: folder, or what `intake.walk` found in it, which gets the clips beside the two folders as left out.
        jobs: processes that count the frames, by decoding.

    Returns:
        One row a clip, sorted by partition and name: clip, person, video, start, end, partition ("train", "test"), path (from
        `root`, with /), form, frames, error ("" or why it cannot be read), note ("" or what is odd about its times).

    Raises:
        FileNotFoundError: no folder, only one of the two, or no clip.
    """
    found = intake.walk(root, {intake.VIDEO, intake.PICTURE})
    sides = _side_folders(found)
    if len(sides) == 1:
        raise FileNotFoundError(
            f"{found.root}: expected a folder with train/ and test/, or with clips. Found: {[*sides.values()]}"
        )
    rows = {}
    for path, kind in list(found.files.items()):
        place = path.relative_to(path.parts[0]) if sides else path
        if sides and path.parts[0] not in sides.values():
            found.leave_out(path, f"beside {' and '.join(sides.values())}")
        elif kind == intake.PICTURE and len(place.parts) > 1:
            rows[path.parent] = place.parent
        else:
            rows[path] = place
    if not rows:
        raise FileNotFoundError(
            f"no clip in {found.root.name}: expected folders of pictures, or films{found.first_reason()}"
        )
    table = pd.DataFrame([_row(found.root, path, place, sides) for path, place in rows.items()], columns=COLUMNS)
    table = table.sort_values(["partition", "path"], ascending=[False, True], ignore_index=True)
    if not sides:
        test = set(split_names(table["clip"])[1])
        table["partition"] = ["test" if name in test else "train" for name in table["clip"]]
    return count_all(table, found.root, jobs=jobs)


def _side_folders(found: intake.Walk) -> dict[str, str]:
    """Side -> name of its folder, of those of the two that are there."""
    tops = sorted({path.parts[0] for path in found.files if len(path.parts) > 1})
    folders = {intake.split_of(name): name for name in tops}
    return {side: folders[side] for side in ("train", "test") if side in folders}


def _row(root: Path, path: Path, place: Path, sides: dict[str, str]) -> tuple:
    name = "#".join(place.parts)
    partition = intake.split_of(path.parts[0]) if sides else ""
    return (name, *parse_name(name), partition, path.as_posix(), form_of(root / path), 0, "", "")


def count_all(table: pd.DataFrame, root: str | os.PathLike, *, jobs: int) -> pd.DataFrame:
    """A table of clips with frames, decoded and counted, and error where that fails; rows with an error are left as they are."""
    rows = table.index[table["error"] == ""]
    work, paths = partial(_count, root=Path(root)), table.loc[rows, "path"]
    counted = parallel.parallel(work, paths, what="clips", jobs=jobs, label="counting")
    counted = counted.reindex(columns=["frames", "error", "note"]).set_axis(rows).fillna({"frames": 0, "note": ""})
    return table.assign(
        frames=counted["frames"].astype(int).reindex(table.index, fill_value=0),
        error=counted["error"].reindex(table.index).fillna(table["error"]),
        note=counted["note"].reindex(table.index, fill_value=""),
    )


def count_frames(path: str | os.PathLike) -> int:
    """How many frames a clip really has; videos are decoded."""
    return len(read_timing(path).times)


def read_timing(path: str | os.PathLike) -> video.Timing:
    """When a clip's frames are shown; folders and strips have 25 a second, as VoxCeleb, and videos are decoded."""
    path = Path(path)
    if form_of(path) not in ("folder", "strip"):
        return video.read_timing(path)
    count = sum(1 for _ in _scan(path, lambda _: False))
    return video.Timing(np.arange(count) / video.USUAL_FPS, video.USUAL_FPS)


def _count(path: str, root: Path) -> dict:
    timing = read_timing(root / path)
    return {"frames": len(timing.times), "note": timing.note}


def stream(path: str | os.PathLike) -> Iterator[np.ndarray]:
    """The frames of a clip, or another video that FFmpeg reads, one by one, (H, W, 3) uint8 RGB: a long one needs little memory.

    Raises as `read_frames`, when the frame comes.
    """
    return (frame for _, frame in _scan(Path(path), lambda _: True))


def _scan(path: Path, wanted: Callable[[int], bool]) -> Iterator[tuple[int, np.ndarray | None]]:
    """Numbers and frames of a clip; a folder's pictures that are not wanted are not opened, a video's frames not converted."""
    form = form_of(path)
    if form == "folder":
        yield from ((n, read_picture(file) if wanted(n) else None) for n, file in enumerate(_pictures(path)))
    elif form == "strip":
        yield from enumerate(_read_strip(path))
    else:
        yield from video.scan_frames(path, wanted)


def stream_steadily(path: str | os.PathLike, timing: video.Timing) -> Iterator[np.ndarray]:
    """The frames of `stream` at constantly `timing.fps` a second: where a frame is seen longer it comes again, gaps stand still.

    Raises:
        ValueError: the timestamps jump so far that a hundred times as many frames would be needed.
    """
    seconds = timing.times[-1] - timing.times[0]
    if seconds * timing.fps > LONGEST * len(timing.times):
        raise ValueError(
            f"{Path(path).name}: {len(timing.times)} frames in {seconds:.0f} s ({timing.note}): convert it with ffmpeg"
        )
    often = np.bincount(timing.steady(), minlength=len(timing.times))
    for frame, times in zip(stream(path), often, strict=True):
        yield from itertools.repeat(frame, times)


def read_clip(path: str | os.PathLike) -> np.ndarray:
    """All frames of a clip, in order; (T, H, W, 3) and errors as `read_frames`."""
    return read_frames(path)


def read_frames(path: str | os.PathLike, numbers: Sequence[int] | None = None) -> np.ndarray:
    """Some frames of a clip, in the order asked for: a folder's others are not opened, a video's not converted.

    Args:
        path: a clip of any of the four forms.
        numbers: of frames, from 0; one may come twice. None: all.

    Returns:
        (len(numbers), H, W, 3) uint8 RGB; alpha is dropped, grey becomes three equal channels.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: no clip, nothing decodes, or frames of different sizes.
        IndexError: the clip has no such frame.
    """
    path = Path(path)
    if form_of(path) is None:
        kind = FileNotFoundError if not path.exists() else ValueError
        raise kind(f"no clip at {str(path)!r}: expected a folder of pictures, a film, or a picture")
    wanted, frames = None if numbers is None else set(numbers), {}
    for number, frame in _scan(path, lambda number: wanted is None or number in wanted):
        if frame is not None:
            frames[number] = frame
        if wanted is not None and wanted <= frames.keys():
            break
    numbers = list(frames) if numbers is None else numbers
    if missing := [number for number in numbers if number not in frames]:
        raise IndexError(f"{path.name}: no frame {missing[0]}; allowed: numbers from 0 below the clip's length")
    if len({frames[number].shape for number in numbers}) > 1:
        raise ValueError(f"{path.name}: its frames have different sizes; expected one size: make the clip again")
    return np.stack([frames[number] for number in numbers])


def _pictures(folder: Path) -> list[Path]:
    """The pictures of a folder in order of time: 2.png before 10.png."""
    files = [file for file in folder.iterdir() if _is_picture(file)]
    return sorted(files, key=lambda file: ([int(part) for part in re.findall(r"\d+", file.stem)], file.name))


def _read_strip(path: Path) -> np.ndarray:
    image = read_picture(path)
    height, width, _ = image.shape
    if width % height:
        raise ValueError(
            f"{path.name}: {width}x{height} pixels are no row of square frames: make it a folder of pictures"
        )
    return image.reshape(height, -1, height, 3).swapaxes(0, 1)


def resize(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (H, W, 3) uint8 to (height, width, 3) as the original does; the aspect ratio is not kept.

    Bilinear, after a Gaussian of sigma (factor - 1) / 2 on each side that shrinks.
    """
    if frame.shape[:2] == tuple(size):
        return frame
    sigmas = [max(0.0, (old / new - 1) / 2) for old, new in zip(frame.shape, size, strict=False)]
    kernels = [cv2.getGaussianKernel(2 * int(4 * sigma + 0.5) + 1, sigma) if sigma else np.ones(1) for sigma in sigmas]
    smooth = frame.astype(np.float32)
    if any(sigmas):
        smooth = cv2.sepFilter2D(smooth, -1, kernels[1], kernels[0], borderType=cv2.BORDER_REFLECT_101)
    smooth = cv2.resize(smooth, size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.clip(np.round(smooth), 0, 255).astype(np.uint8)
