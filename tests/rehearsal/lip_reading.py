"""GRID's record with drawn talkers: its archives under their own names, and YuNet's own file, which finds drawn faces as well."""

import hashlib
import io
import json
import tempfile
import unittest
import zipfile
from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from helpers import runtime, video
from helpers.drawing.files import draw_all
from helpers.fetch import manifests
from helpers.lip_reading.mini import scenes
from helpers.lip_reading.sources import grid
from tests.rehearsal.site import Site

YUNET = "face_detection_yunet_2023mar.onnx"
SENTENCES, FRAMES = 25, 75  # as many sentences as letters, so each is said once and every digit twice at least
SMALL = {"size_lips": {"width": 48, "height": 48}, "epoch": 2, "batch_size": 8, "allow_cpu": True}
SETTINGS: dict[str, dict[str, object]] = {
    "t4": SMALL | {"grid_speakers": [1, 2, 3, 4]},
    "full": SMALL | {"grid_speakers": [31, 32, 33, 34]},
}


def prepare(site: Site, copy: Path, config: str) -> None:
    """Serve the record with the talkers of `config`, and YuNet's file.

    Raises:
        unittest.SkipTest: YuNet's file is not among the genuine data.
    """
    places = [folder / "shared/data/models" / YUNET for folder in runtime.repo_root().parents]
    genuine = next((place for place in places if place.is_file()), None)
    if genuine is None:
        raise unittest.SkipTest(f"there is no {places[0]}")
    site.put(manifests.load_manifest("yunet").files[0].sources[0].url, genuine)
    archives = _archives(SETTINGS[config]["grid_speakers"])
    for name, body in archives.items():
        site.put(f"{grid.SITE}/records/{grid.RECORD}/files/{name}", body)
    told = [
        {"key": name, "size": len(body), "checksum": f"md5:{hashlib.md5(body).hexdigest()}"}
        for name, body in archives.items()
    ]
    site.put(f"{grid.SITE}/api/records/{grid.RECORD}", json.dumps({"files": told}).encode())


def sentence(talker: int, number: int) -> str:
    """The name of a talker's sentence: letters and digits take turns, so that each is said about equally often."""
    codes = [list(codes) for codes in grid.WORDS.values()]
    turns = (number, talker, number // 4, number, number, talker)
    return "".join(row[turn % len(row)] for row, turn in zip(codes, turns, strict=True))


def alignment(name: str) -> str:
    """When each word of a sentence is said, 9 frames each, with silence before and after."""
    words = ["sil", *grid.parse_name(name).values(), "sil"]
    ends = [0, *range(10, 10 + 9 * 7, 9), FRAMES]
    return "".join(f"{1000 * a} {1000 * b} {word}\n" for (a, b), word in zip(pairwise(ends), words, strict=True))


def draw_clip(item: tuple[int, str], folder: str) -> dict:
    """Write `<folder>/s<talker>/<sentence>.mpg`: a talker of mini, who takes as long for a word as GRID's for a sentence."""
    talker, name = item
    word = list(scenes.WORDS)[sum(name.encode()) % len(scenes.WORDS)]
    speaker = f"s{talker:02d}"
    drawn = list(scenes.plan_clip(scenes.clip_path(speaker, word, 1), fps=grid.FPS).frames())
    moments = np.arange(FRAMES) * len(drawn) // FRAMES
    wide = [cv2.copyMakeBorder(cv2.resize(f, (252, 288)), 0, 0, 54, 54, cv2.BORDER_REPLICATE) for f in drawn]
    path = Path(folder) / f"s{talker}" / f"{name}.mpg"
    return {"frames": video.write_video(path, (wide[moment] for moment in moments), grid.FPS, codec="mpg1")}


def _archives(talkers: list[int]) -> dict[str, bytes]:
    """The archives by name. As in the genuine record, two talkers' alignments have each other's names, and one clip has none."""
    said = {talker: [sentence(talker, number) for number in range(SENTENCES)] for talker in talkers}
    folders = dict(zip(talkers, [talkers[1], talkers[0], *talkers[2:]], strict=True))
    told = {f"alignments/s{folders[t]}/{name}.align": alignment(name) for t in talkers for name in said[t]}
    told.popitem()
    made = {"alignments.zip": _zipped(told)}
    with tempfile.TemporaryDirectory() as folder:
        items = [(talker, name) for talker in talkers for name in said[talker]]
        draw_all(partial(draw_clip, folder=folder), items, what="clips", label="drawing sentences", jobs=-1)
        for talker in talkers:
            clips = {
                f"s{talker}/{path.name}": path.read_bytes() for path in sorted(Path(folder, f"s{talker}").iterdir())
            }
            made[f"s{talker}.zip"] = _zipped(clips)
    return made


def _zipped(members: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()
