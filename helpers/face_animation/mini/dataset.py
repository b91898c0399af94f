"""Draws a small VoxCeleb of hand puppets, `<train|test>/<person>#<video>#<start>#<end>.mp4`, from a seed, in seconds.

Every clip is one puppet that turns, nods, tilts and moves its head, talks, blinks and looks around before a wall that stands
still. Puppets of the test are not in the training. Where ten points of each face are (`puppets.POINTS`) is known exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from helpers import video
from helpers.drawing import files
from helpers.drawing.chance import generator
from helpers.face_animation.mini import puppets
from helpers.face_animation.mini.originals import SCREEN, clip_box
from helpers.face_animation.mini.puppets import POINTS, Pose, Puppet, make_puppet
from helpers.face_animation.mini.stage import draw_puppet, draw_room, puppet_points
from helpers.face_animation.sources import voxceleb
from helpers.face_animation.sources.local import write_folder
from helpers.workspace import disk

FRAMES = (64, 97)  # least number of frames of a clip, and the most plus one; VoxCeleb's least is 64 too
FORMS = ("frames", "gif", "strip")  # beside "mp4": of the last clips of the first persons in each part, in turn
FIRST = {"train": 10001, "test": 10280}  # person_id of the first, as in VoxCeleb
BROKEN = {"id10001#puppet-gone#000020#000100.mp4": "gone: in the metadata, but the video was taken down"}
REPEATED = 1  # rows that stand twice in the metadata, as 308 do in VoxCeleb's


@dataclass(frozen=True)
class Pair:
    """One animation in memory, with what should come out of it.

    Attributes:
        source: the picture to animate, (size, size, 3) uint8.
        driving: the clip whose motion it gets, (T, size, size, 3) uint8.
        truth: the source's puppet doing what the driving one does, relative to how both begin; its first frame is `source`,
            which looks ahead. Where both are the same puppet, it is `driving`.
        source_points: (10, 2) float32, x, y in pixels, see `puppets.POINTS`.
        driving_points, truth_points: (T, 10, 2) float32.
    """

    source: np.ndarray
    driving: np.ndarray
    truth: np.ndarray
    source_points: np.ndarray
    driving_points: np.ndarray
    truth_points: np.ndarray


def _draw(puppet: Puppet, room: np.ndarray, poses: Sequence[Pose]) -> tuple[np.ndarray, np.ndarray]:
    points = [puppet_points(puppet, pose, room.shape[0]) for pose in poses]
    return np.stack([draw_puppet(room, puppet, pose) for pose in poses]), np.stack(points)


def make_pair(source: int = 0, driving: int = 0, *, seed: int = 0, size: int = 128, frames: int = 64) -> Pair:
    """One clip in memory: a picture of one puppet, a clip of another or the same, and the animation that is wanted.

    Args:
        source, driving: numbers of puppets from 0; those of the test come after those of the training.
        seed: of everything; another seed has other puppets and motion.
        size: height and width in pixels.
        frames: of the driving clip, 25 a second.

    Raises:
        ValueError: see `make_dataset`; or fewer than 2 frames.
    """
    _check_size(size)
    if min(source, driving) < 0 or frames < 2:
        raise ValueError(
            f"puppets count from 0 and frames must be 2 or more. Received: {source=}, {driving=}, {frames=}"
        )
    who, other = make_puppet(source, seed), make_puppet(driving, seed)
    poses = puppets.plan_motion(generator(seed, "pair", source, driving), 2 * frames, other.tempo)
    calm = [abs(pose.yaw) + abs(pose.pitch) + abs(pose.roll) + pose.opening + pose.lids for pose in poses]
    begin = int(np.argmin(calm[:frames]))  # relative motion wants both to begin alike
    poses = poses[begin : begin + frames]
    wanted = poses if source == driving else [puppets.moved(poses[0], pose) for pose in poses]
    clip, clip_points = _draw(other, draw_room(other, size, generator(seed, "room", driving)), poses)
    truth, truth_points = _draw(who, draw_room(who, size, generator(seed, "room", source)), wanted)
    return Pair(truth[0], clip, truth, truth_points[0], clip_points, truth_points)


def _plan_clips(people: tuple[int, int], more: int, clips: int, seed: int) -> list[dict]:
    """What clips there are, before anything is drawn: rows of `make_dataset`, without frames, from its arguments."""
    _check(people, more, clips)
    plans = []
    # Those that come more have the numbers after the test's: with or without them the test is the same.
    for partition, begin, count, first in (
        ("train", 0, people[0], 0),
        ("test", 0, people[1], people[0]),
        ("train", people[0], more, sum(people)),
    ):
        for index in range(count):
            person = f"id{FIRST[partition] + begin + index}"
            start = 0
            for take in range(clips):
                rng = generator(seed, person, take)
                letter, start = "abcdefghij"[take // 2 % 10], start * (take % 2) + int(rng.integers(8, 40))
                form = FORMS[index] if take == clips - 1 and not begin and index < len(FORMS) else "mp4"
                end = start + (FRAMES[0] if form != "mp4" else int(rng.integers(*FRAMES)))
                name = f"puppet-{first + index + 1:03d}{letter}"  # 11 characters, as ids of YouTube
                suffix = {"gif": ".gif", "strip": ".png"}.get(form, ".mp4")  # a folder of frames is called .mp4 too
                clip = f"{person}#{name}#{start:06d}#{end:06d}{suffix}"
                plan = {"clip": clip, "person": person, "video": name, "start": start, "end": end}
                plans.append(plan | {"partition": partition, "path": f"{partition}/{clip}", "form": form})
                start = end
    return plans


def _check(people: tuple[int, int], more: int, clips: int) -> None:
    numbers = len(people) == 2 and min(people) >= 1 and more >= 0 and sum(people) + more <= 999
    if not numbers or people[0] + more > 278 or not 1 <= clips <= 20:
        raise ValueError(
            "people must be two numbers, for training (1 to 278, with more) and test (1 or more), and clips 1 to 20. "
            f"Received: {people=}, {more=}, {clips=}"
        )


def _check_size(size: int) -> None:
    if size < 32 or size % 2:
        raise ValueError(f"size must be even, for the codec, and 32 pixels or more. Received: {size=}")


def make_dataset(
    folder: str | Path,
    *,
    people: tuple[int, int] = (15, 4),
    more: int = 0,
    clips: int = 3,
    seed: int = 0,
    size: int = 64,
    jobs: int | None = -1,
) -> pd.DataFrame:
    """Write `<train|test>/<clip>`, `vox-metadata.csv` (columns as VoxCeleb's) and `points.csv` (see `read_points`).

    Most clips are mp4 files. The last clip of the first persons is a folder of PNG frames, a GIF, and one strip of all frames
    side by side, in turn: the forms that the first-order motion model reads. The metadata list one clip twice, and also those of
    `BROKEN`, for which there is no file. The same arguments give the same frames, whatever the number of processes. A clip
    that stands already is left as it is; so another seed or size belongs in another folder.

    Args:
        people: how many puppets for training and for the test, none in both.
        more: further puppets for training; everything else stays as it is without them.
        clips: of each puppet, two from one video.
        size: height and width in pixels.

    Returns:
        One row a clip that is there, in order: clip (its name), person, video, start, end (at 25 frames per second, end not
        included), partition, path (relative to the folder, with slashes), form ("mp4" or one of `FORMS`), frames.

    Raises:
        ValueError: numbers that make no dataset.
        RuntimeError: clips that could not be written, with the first reason.
        OSError: the disk is full or read-only.
    """
    _check_size(size)
    plans = _plan_clips(people, more, clips, seed)
    write = partial(_write_clip, folder=Path(folder), seed=seed, size=size)
    table = files.draw_all(write, plans, what="clips", label="drawing clips", jobs=jobs)
    files.write_points(folder, table, POINTS, key="clip")
    disk.write_table(Path(folder) / voxceleb.METADATA, _metadata(table, seed))
    return table[[*plans[0], "frames"]]


def _write_clip(plan: dict, folder: Path, seed: int, size: int) -> dict:
    puppet, path = make_puppet(puppets.puppet_number(plan["video"]), seed), folder / plan["path"]
    poses = puppets.clip_poses(plan["video"], plan["start"], plan["end"], seed)
    if path.exists():  # what stands under its own name is whole: it is renamed when done
        points = np.stack([puppet_points(puppet, pose, size) for pose in poses])
    else:
        frames, points = _draw(puppet, draw_room(puppet, size, generator(seed, plan["video"])), poses)
        writers = {"mp4": video.write_video, "frames": write_folder, "gif": _write_gif, "strip": _write_strip}
        writers[plan["form"]](path, frames)
    return {**plan, "frames": len(poses), "points": points}


def _write_gif(path: Path, frames: np.ndarray) -> None:
    first, *rest = (Image.fromarray(frame) for frame in frames)
    with disk.atomic_write(path) as file:
        first.save(file, "GIF", save_all=True, append_images=rest, duration=1000 // puppets.FPS, loop=0)


def _write_strip(path: Path, frames: np.ndarray) -> None:
    with disk.atomic_write(path) as file:
        Image.fromarray(np.concatenate(list(frames), axis=1)).save(file, "PNG")


def _metadata(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """What VoxCeleb says of its clips: the box in a video of 1280x720; shuffled, with repeated rows and those of `BROKEN`."""
    rows = [(row.video, row.start, row.end, row.person, row.partition) for row in table.itertuples()]
    for name in BROKEN:
        person, gone, start, end = Path(name).stem.split("#")
        rows.append((gone, int(start), int(end), person, "train"))
    rows += rows[:REPEATED]
    order = generator(seed, "metadata").permutation(len(rows))
    records = []
    for identity, start, end, person, partition in (rows[index] for index in order):
        box = "-".join(map(str, clip_box(identity, start, seed=seed)))
        records.append((identity, start, end, box, puppets.FPS, SCREEN[1], SCREEN[0], partition, person))
    return pd.DataFrame(records, columns=voxceleb.COLUMNS)


def read_points(folder: str | Path) -> dict[str, np.ndarray]:
    """The true points of every clip from `points.csv`, by its name: (T, 10, 2) float32, x, y in pixels of the clip.

    The order is `puppets.POINTS`; whole numbers are the middles of pixels. Points that cannot be seen are told too: pupils
    behind lids, an ear behind the head.

    Raises:
        FileNotFoundError: the folder was not made by `make_dataset`.
    """
    return files.read_points(folder, POINTS)
