"""Draws a small UCF101 in the genuine on-disk format: `<Class>/v_<Class>_g<GG>_c<CC>.avi`, from a seed, in seconds.

As in UCF101 the clips of one group share person, place and camera. Colours, background, light, size and side are drawn
per group, from the same chances for every class: they tell the group, and only pose and motion tell the class.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from helpers import video
from helpers.drawing.chance import generator
from helpers.drawing.files import draw_all
from helpers.temporal_coherence.config import SPORTS
from helpers.temporal_coherence.mini.scenes import SCENES
from helpers.temporal_coherence.mini.stage import Stage, draw_background, draw_look
from helpers.temporal_coherence.sources import ucf101
from helpers.workspace import disk

CLASSES = tuple(SCENES)
LAST_TEST_GROUP = 7  # UCF101, fold 1: groups 1 to 7 are for the test, 8 to 25 for training
GROUPS = tuple(range(1, 20))
MORE_GROUPS = tuple(range(20, 100))  # a name has room for two digits
FPS = 25


def _draw_light(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The light on every pixel (255 = all), which fades to one side, and the fog to add: both (H, W, 3) uint8."""
    y, x = np.mgrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j]
    slope = rng.uniform(-0.1, 0.1, 2)
    fade = 0.9 + slope[0] * x + slope[1] * y - rng.uniform(0, 0.1) * (x**2 + y**2)
    fog = np.full((*size, 3), rng.uniform(0, 60) * rng.uniform(0.7, 1.0, 3), np.uint8)
    tint = rng.uniform(0.85, 1.0) * rng.uniform(0.94, 1.0, 3)
    return np.clip((255 - fog) * fade[..., None] * tint, 0, 255).astype(np.uint8), fog


def draw_clip(
    label: str, group: int, clip: int, *, seed: int = 0, frames: tuple[int, int] = (32, 52),
    size: tuple[int, int] = (120, 160),
) -> Iterator[np.ndarray]:  # fmt: skip
    """Draw one clip, which depends on the arguments alone.

    Args:
        label: one of `CLASSES`.
        group: source video; clips of a group share person, place and camera, for every seed and class other ones.
        clip: tempo, phase and small offsets are its own.
        frames: least and most number of frames.
        size: (height, width) in pixels.

    Yields:
        RGB frames, (H, W, 3) uint8, for 25 frames a second.

    Raises:
        ValueError: the label is none of `CLASSES`, or frames or size make no clip.
    """
    _check([label], frames, size)
    return _frames(label, group, clip, seed, _count_frames(label, group, clip, seed, frames), size)


def _check(classes: Sequence[str], frames: tuple[int, int], size: tuple[int, int]) -> None:
    if unknown := [label for label in classes if label not in SCENES]:
        raise ValueError(f"no scene for {unknown}: choose from {', '.join(CLASSES)}")
    if len(frames) != 2 or not 1 <= frames[0] <= frames[1]:
        raise ValueError(f"frames must be (least, most) with 1 <= least <= most. Received: frames={frames!r}")
    if len(size) != 2 or min(size) < 32:
        raise ValueError(f"size must be (height, width), both 32 pixels or more. Received: size={size!r}")


def _count_frames(label: str, group: int, clip: int, seed: int, frames: tuple[int, int]) -> int:
    return int(generator(seed, label, group, clip, "frames").integers(frames[0], frames[1] + 1))


def _frames(label: str, group: int, clip: int, seed: int, count: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    place, own = generator(seed, label, group), generator(seed, label, group, clip)
    look, (light, fog) = draw_look(place), _draw_light(place, size)
    unit = min(size[0] / 120, size[1] / 160)  # pixels per world unit before zooming
    scale, mirror, shaking = unit * place.uniform(0.8, 1.06), place.random() < 0.5, unit * place.uniform(0.2, 1.2)
    offset = complex(place.uniform(-10, 10) + own.uniform(-2, 2), place.uniform(-5, 5) + own.uniform(-1, 1))
    origin, margin = complex(size[1], size[0]) / 2 + unit * offset, min(size) // 8  # room for a shaking camera
    wide = np.zeros((size[0] + 2 * margin, size[1] + 2 * margin, 3), np.uint8)
    view = {"turn": scale, "mirror": mirror}
    draw_background(Stage(wide, look, origin=origin + margin * (1 + 1j), **view), place)
    draw = SCENES[label](own, look)
    pace, phase = own.uniform(2, 6, 4), own.uniform(0, 6, 4)
    for index in range(count):
        waves = shaking * np.sin(pace * index / FPS + phase)
        shake = complex(waves[0] + waves[1], waves[2] + waves[3])
        move = np.array([[1, 0, shake.real - margin], [0, 1, shake.imag - margin]])
        image = cv2.warpAffine(wide, move, size[::-1])
        draw(Stage(image, look, origin=origin + shake, **view), index / FPS)
        yield cv2.add(cv2.multiply(image, light, scale=1 / 255), fog)


def make_dataset(
    folder: str | Path, *, seed: int = 0, classes: Sequence[str] = CLASSES, groups: Sequence[int] = GROUPS,
    clips_per_group: int = 2, frames: tuple[int, int] = (32, 52), size: tuple[int, int] = (120, 160),
    jobs: int | None = -1,
) -> pd.DataFrame:  # fmt: skip
    """Write the clips as `<Class>/v_<Class>_g<GG>_c<CC>.avi`; a clip whose file stands already is left as it is.

    The same arguments give the same frames, whatever the number of processes; another seed belongs in another folder.

    Args:
        frames, size, jobs: see `draw_clip` and `helpers.parallel`.

    Returns:
        One row a clip, in order: path (relative to the folder, with slashes), label, group, clip, frames.

    Raises:
        ValueError, RuntimeError, OSError: bad arguments; clips that could not be written; a full or read-only disk.
    """
    _check(classes, frames, size)
    keys = [(label, group, clip) for label in classes for group in groups for clip in range(1, clips_per_group + 1)]
    write = partial(_write_clip, folder=Path(folder), seed=seed, frames=tuple(frames), size=tuple(size))
    table = draw_all(write, keys, what="clips", label="drawing clips", jobs=jobs)
    return table[["path", "label", "group", "clip", "frames"]]


def _write_clip(
    key: tuple[str, int, int], folder: Path, seed: int, frames: tuple[int, int], size: tuple[int, int]
) -> dict:
    label, group, clip = key
    path = f"{label}/v_{label}_g{group:02d}_c{clip:02d}.avi"
    if not (folder / path).exists():  # a file under its own name is whole: `write_video` renames when done
        video.write_video(folder / path, draw_clip(*key, seed=seed, frames=frames, size=size), fps=FPS)
    count = _count_frames(*key, seed, frames)
    return {"path": path, "label": label, "group": group, "clip": clip, "frames": count}


def write_lists(folder: str | Path, table: pd.DataFrame) -> Path:
    """Write `ucfTrainTestlist/{classInd,trainlist01,testlist01}.txt` as UCF101 has them.

    Lines end in CRLF, labels count from 1, the test list has none, and all ten classes of the course have a number.

    Args:
        table: from `make_dataset`; groups 1 to 7 are for the test, `MORE_GROUPS` too are for training.
    """
    table = table.sort_values(["label", "group", "clip"])
    numbers = ucf101.class_table().set_index("class")["label"].loc[list(SPORTS)]
    test = table["group"] <= LAST_TEST_GROUP
    lists = {
        "classInd": [f"{number} {label}" for label, number in numbers.items()],
        "trainlist01": [f"{row.path} {numbers[row.label]}" for row in table[~test].itertuples()],
        "testlist01": table[test]["path"].tolist(),
    }
    target = Path(folder) / "ucfTrainTestlist"
    for name, lines in lists.items():
        disk.write(target / f"{name}.txt", "".join(f"{line}\r\n" for line in lines).encode())
    return target


def truncate_clip(path: str | Path, share: float = 2 / 3, *, target: str | Path | None = None) -> Path:
    """Copy the first `share` of a file's bytes, like a broken download: the header of the copy still claims all frames.

    Args:
        target: the copy, by default `<name>_cut.avi` beside the file.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, both excluded. Received: share={share!r}")
    path = Path(path)
    target = Path(target) if target else path.with_name(f"{path.stem}_cut{path.suffix}")
    content = path.read_bytes()
    target.write_bytes(content[: round(share * len(content))])
    return target
