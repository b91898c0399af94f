"""RAVDESS: archives of its official record -> one clip of each sentence -> the table of clips.

A file's name tells what is seen: `02-01-06-01-02-01-12.mp4` is, without sound, speech, fearful, normal, "Dogs are sitting by the
door", said the first time, by actor 12. `data_manifests/ravdess.yaml` has the facts, the meaning of the numbers and the terms.
"""

import functools
import os
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from helpers.face_animation import data
from helpers.fetch import archives, manifests

TOLD = ["emotion", "intensity", "statement", "repetition"]  # what becomes columns of the table
PARTS = ("modality", "channel", *TOLD, "actor")  # of a name, two digits each
SILENT = "02-"  # how the names of clips without sound begin; each is there with sound too, "01-"
COLUMNS = [*data.COLUMNS, *TOLD]


@functools.cache
def _meanings() -> dict:
    return manifests.load_manifest("ravdess").counts


def parse_name(name: str) -> dict[str, str]:
    """What the name of a clip says, by `PARTS`: modality "video only", emotion "fearful", ..., actor "12".

    Raises:
        ValueError: not a name of RAVDESS.
    """
    codes = dict(zip(PARTS, Path(name).stem.split("-"), strict=False))
    whole = re.fullmatch(r"\d\d(-\d\d){6}\.mp4", Path(name).name) and 1 <= int(codes["actor"]) <= _meanings()["actors"]
    if not whole or any(codes[part] not in _meanings()[part] for part in PARTS[:-1]):
        raise ValueError(
            f"name: received {Path(name).name!r}; allowed: seven numbers such as 02-01-06-01-02-01-12.mp4 "
            f"({'-'.join(PARTS)})"
        )
    return {part: code if part == "actor" else _meanings()[part][code] for part, code in codes.items()}


def person_of(actor: int) -> str:
    """What an actor is called in tables and folders: "Actor_01"."""
    return f"Actor_{actor:02d}"


def choose(names: Iterable[str]) -> list[str]:
    """The members of an archive that are unpacked: every clip once, without sound where there is one (both show the same).

    Members of foreign names are among them, so that the table can tell of them; hidden files never.
    """
    kept: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (not PurePosixPath(name).name.startswith(SILENT), name)):
        last = PurePosixPath(name).name
        if name.endswith("/") or any(part.startswith((".", "__")) for part in PurePosixPath(name).parts):
            continue
        try:
            parse_name(last)
            kept.setdefault(last.partition("-")[2], name)
        except ValueError:
            kept[name] = name
    return sorted(kept.values())


def fetch(folder: str | os.PathLike, actors: Sequence[int], *, cache: str | os.PathLike, **options: float) -> None:
    """Bring the clips of actors to `folder`; an actor who is there already is kept.

    Args:
        folder: gets `Actor_01/`, ..., each whole or not at all.
        cache: folder of the archives (0.5 to 0.6 GB each), where they may lie already; they stay there.
        **options: retries, timeout, backoff, max_wait of `manifests.fetch`.

    Raises:
        manifests.DownloadError: an archive could not be had, or is not the record's.
        archives.ArchiveError: an archive is broken.
    """
    manifest = manifests.load_manifest("ravdess")
    for actor in actors:
        target = Path(folder) / person_of(actor)
        if target.is_dir() and any(target.iterdir()):  # it gets its name when it is whole
            continue
        file = manifest.file(f"Video_Speech_{target.name}.zip")
        archive = manifests.fetch(file, cache, **options)
        with zipfile.ZipFile(archive) as opened:
            members = choose(opened.namelist())
        archives.extract(archive, target, members=members, max_bytes=file.unpacked_size)


def list_clips(root: str | os.PathLike, actors: Sequence[int], *, test: int, jobs: int = 1) -> pd.DataFrame:
    """The clips that `fetch` brought.

    Args:
        actors: their numbers; the others in the folder are overlooked.
        test: so many of them, the last, are the test: people whom nobody trained on.

    Returns:
        As `data.find_clips`, with the columns emotion, intensity, statement and repetition; person is the actor, error also says
        which names cannot be read. Per partition all actors and emotions take turns, so that the first clips show many of them.
    """
    rows = []
    for place, actor in enumerate(actors):
        partition = "test" if place >= len(actors) - test else "train"
        files = sorted(path for path in (Path(root) / person_of(actor)).rglob("*") if path.is_file())
        rows += [_row(path, Path(root), actor, partition) for path in files]
    table = pd.DataFrame(rows, columns=COLUMNS).sort_values(["partition", *TOLD[::-1], "clip"], ignore_index=True)
    return data.count_all(table, root, jobs=jobs)


def _row(path: Path, root: Path, actor: int, partition: str) -> dict:
    person = person_of(actor)
    row = {"clip": f"{person}#{path.name}", "person": person, "video": path.stem, "start": -1, "end": -1}
    row |= {"partition": partition, "path": path.relative_to(root).as_posix(), "form": data.form_of(path) or ""}
    row |= {"frames": 0, **dict.fromkeys(("error", "note", *TOLD), "")}
    try:
        words = parse_name(path.name)
        if int(words["actor"]) != actor:
            raise ValueError(f"the name says actor {words['actor']}, the archive is that of {person}")
        return row | {part: words[part] for part in TOLD}
    except ValueError as error:
        return row | {"error": str(error)}


def centre_square(frame: np.ndarray) -> np.ndarray:
    """The square of the full height in the middle of a wide frame: (H, W, 3) -> (H, H, 3).

    No face is looked for: all actors were filmed from the same place before the same wall, 1280 x 720 pixels with the head near
    the middle, so the makers' set-up fixes the framing, and one square stays right for all frames of a clip.

    Raises:
        ValueError: the frame is taller than wide.
    """
    height, width = frame.shape[:2]
    if height > width:
        raise ValueError(f"its frames are {width} wide and {height} tall; expected wide ones, such as 1280 x 720")
    left = (width - height) // 2
    return frame[:, left : left + height]
