"""Plays the puppet theatre: whole videos, from which the clips of the mini dataset can be cut by the boxes of its metadata."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from helpers import video
from helpers.drawing.chance import generator
from helpers.drawing.files import draw_all
from helpers.face_animation.mini.puppets import FPS, clip_poses, make_puppet, puppet_number
from helpers.face_animation.mini.stage import draw_puppet, draw_room

SCREEN = (720, 1280)  # height and width to which the boxes of the metadata refer
CURTAIN = (150, 30, 44)


def clip_box(identity: str, start: int, *, seed: int = 0) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the clip that begins at frame `start` of a video of 1280x720, taller than wide."""
    rng = generator(seed, identity, start, "box")
    width, height = 4 * rng.integers((65, 80), (85, 110))
    left, top = 4 * rng.integers((0, 0), ((SCREEN[1] - width) // 4, (SCREEN[0] - height) // 4))
    return int(left), int(top), int(left + width), int(top + height)


def make_originals(folder: str | Path, table: pd.DataFrame, *, seed: int = 0, jobs: int | None = -1) -> list[Path]:
    """Write the whole videos that clips were cut from, `<video>.mp4`, as a user of VoxCeleb has them on the own disk.

    Each is a puppet theatre, 640x360 at 25 frames per second, half the size to which the metadata's boxes refer. A box is the
    opening of the stage; before, between and after the clips its curtain is closed.

    Args:
        table: rows of `make_dataset` of the same seed; all clips of a video that shall be in it.

    Returns:
        The files, one a video, in the order of the table.

    Raises:
        RuntimeError: videos that could not be written, with the first reason.
        OSError: the disk is full or read-only.
    """
    groups = table.groupby("video", sort=False)
    items = [(name, sorted(zip(rows["start"], rows["end"], strict=True))) for name, rows in groups]
    write = partial(_write_original, folder=Path(folder), seed=seed)
    draw_all(write, items, what="videos", label="playing theatre", jobs=jobs)
    return [Path(folder) / f"{name}.mp4" for name, _ in items]


def _write_original(item: tuple[str, list[tuple[int, int]]], folder: Path, seed: int) -> dict:
    name, spans = item
    path = folder / f"{name}.mp4"
    if not path.exists():
        video.write_video(path, _theatre(name, spans, seed), FPS)
    return {"path": path.name}


def _theatre(name: str, spans: list[tuple[int, int]], seed: int) -> Iterator[np.ndarray]:
    puppet = make_puppet(puppet_number(name), seed)
    room = draw_room(puppet, 128, generator(seed, name))
    height, width = SCREEN[0] // 2, SCREEN[1] // 2
    folds = 0.75 + 0.25 * np.sin(np.arange(width) / 7)[None, :, None]
    curtain = np.broadcast_to(folds * CURTAIN, (height, width, 3)).astype(np.uint8)
    now = 0
    for start, end in spans:
        yield from [curtain] * (start - now)
        left, top, right, bottom = (side // 2 for side in clip_box(name, start, seed=seed))
        for pose in clip_poses(name, start, end, seed):
            frame = curtain.copy()
            frame[top:bottom, left:right] = cv2.resize(draw_puppet(room, puppet, pose), (right - left, bottom - top))
            yield frame
        now = end
    yield from [curtain] * 8
