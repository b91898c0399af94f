"""The same strange files in a folder of one's own: the same table of what was left out, in all five projects."""

from helpers import runtime

runtime.quiet_start()

import gzip
from importlib import import_module

import cv2
import numpy as np
import pytest

from helpers import config as configs
from helpers import intake, video
from helpers.circulant_video.formats import examples, tfrecord

STRANGE = {  # file -> content and words of the reason
    "page.html.mp4": (b"<!DOCTYPE html><html>Sign in</html>", "a web page (a server sent a page"),
    "big.tfrecord": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n", "run `git lfs pull`"),
    "all.jpg": (gzip.compress(b"x" * 99), "a gzip file (unpack it first)"),
    "cut.avi": (b"", "an empty file"),
    "more.avi.crdownload": (b"RIFF", "unfinished, by its name"),
    ".hidden.avi": (b"RIFF", "hidden, or of the system"),
    "Thumbs.db": (b"\1\2\3", "hidden, or of the system"),
    "notes.docx": (b"\1\2\3\xfe", "of no kind that is known"),
}


def film(path, shade=90):
    frames = [np.full((48, 64, 3), shade + 4 * number, np.uint8) for number in range(12)]
    video.write_video(path, frames, 25)


def photo(path, _=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((40, 60, 3), np.uint8))
    path.with_suffix(".txt").write_text("0 0.5 0.5 0.2 0.2\n")


def records(path, _=0):
    frames = {"rgb": np.zeros((3, 64), np.uint8), "audio": np.zeros((3, 16), np.uint8)}
    tfrecord.write_records(path, [examples.encode_frame_level(path.stem, [1], frames)])


GOOD = {  # project -> two files of its kind, who writes them, and its setting for the folder
    "temporal_coherence": (("walk/a.mp4", "run/b.avi"), film, "local_folder"),
    "circulant_video": (("train0000.tfrecord", "validate3300.tfrecord"), records, "local_folder"),
    "boat_detection": (("a.jpg", "sub/b.png"), photo, "local_folder"),
    "lip_reading": (("yes/a.mp4", "no/b.avi"), film, "path_to_dataset"),
    "face_animation": (("ann.mp4", "bob.avi"), film, "local_folder"),
}


@pytest.mark.parametrize("project", GOOD)
def test_what_is_no_data_is_left_out_with_the_same_words(project, tmp_path, capsys):
    names, write, key = GOOD[project]
    folder = tmp_path / "mine"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write(folder / name)
    for name, (content, _) in STRANGE.items():
        (folder / name).write_bytes(content)
    settings = tmp_path / "mine.yaml"
    mini = (runtime.repo_root() / "notebooks" / project / "mini.yaml").read_text()
    lines = [line for line in mini.splitlines() if line.split(":")[0] not in ("source", key, "split_by")]
    split = {"circulant_video": [], "face_animation": []}.get(project, ["split_by: random"])
    split = ["split_by: clip"] if project == "temporal_coherence" else split
    settings.write_text("\n".join([*lines, "source: local", f"{key}: {folder}", *split]))
    schema = next(
        value for name, value in vars(import_module(f"helpers.{project}.config")).items()
        if name.endswith("Config") and name != "BaseConfig"
    )  # fmt: skip
    steps = import_module(f"helpers.{project}.steps")
    built = steps.build_dataset(configs.load(settings, schema), tmp_path / "workspace")
    table = built.table("left_out")
    reasons = dict(table.itertuples(index=False))
    assert list(table.columns) == intake.COLUMNS and len(table) == built["left_out"]
    assert set(reasons) == set(STRANGE), project
    for name, (_, words) in STRANGE.items():
        assert words in reasons[name], name
    capsys.readouterr()
    assert intake.tell(2, table).equals(table)
    assert capsys.readouterr().out == "2 files used, 8 left out\n"
