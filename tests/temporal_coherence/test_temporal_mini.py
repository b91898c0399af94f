"""The mini UCF101: genuine format, repeatable, and classes that differ by motion and not by colour."""

import hashlib
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from helpers import runtime, video
from helpers.temporal_coherence.mini import dataset, scenes, stage

NAME = re.compile(r"^(?P<folder>\w+)/v_(?P<label>\w+)_g(?P<group>\d{2})_c(?P<clip>\d{2})\.avi$")
OFFICIAL = {"Archery": 3, "Billiards": 12, "Bowling": 16, "GolfSwing": 33, "HammerThrow": 36}
OFFICIAL |= {"HorseRace": 41, "Rowing": 76, "Skiing": 81, "SoccerPenalty": 85, "TennisSwing": 92}
SMALL = {"classes": ("Archery", "Rowing"), "groups": (1, 8), "clips_per_group": 2, "frames": (6, 11), "size": (60, 80)}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ucf")
    return folder, dataset.make_dataset(folder, jobs=2, **SMALL)


def digest(frames) -> str:
    return hashlib.sha256(np.stack(list(frames)).tobytes()).hexdigest()


def test_files_have_the_genuine_form_and_the_table_tells_the_truth(drawn):
    folder, table = drawn
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.avi")) == sorted(table["path"])
    assert list(table.columns) == ["path", "label", "group", "clip", "frames"] and len(table) == 2 * 2 * 2
    for row in table.itertuples():
        parts = NAME.match(row.path).groupdict()
        assert parts == {
            "folder": row.label,
            "label": row.label,
            "group": f"{row.group:02d}",
            "clip": f"{row.clip:02d}",
        }
        assert video.count_frames(folder / row.path) == row.frames and 6 <= row.frames <= 11
        info = video.header_info(folder / row.path)
        assert (info["fps"], info["width"], info["height"]) == (25, 80, 60)
        assert b"XVID" in (folder / row.path).read_bytes()[:512]
    assert table["frames"].nunique() > 1


def test_files_hold_what_draw_clip_draws(drawn):
    folder, table = drawn
    row = next(table[3:].itertuples())
    expected = np.stack(list(dataset.draw_clip(row.label, row.group, row.clip, frames=(6, 11), size=(60, 80))))
    stored = np.stack(list(video.read_frames(folder / row.path)))
    assert expected.shape == stored.shape == (row.frames, 60, 80, 3) and expected.dtype == np.uint8
    assert np.abs(expected.astype(int) - stored).mean() < 8  # the codec loses a little
    assert np.abs(expected[..., ::-1].astype(int) - stored).mean() > 8  # red and blue are not swapped


def test_number_and_order_of_jobs_change_nothing(drawn, tmp_path):
    folder, table = drawn
    again = dataset.make_dataset(tmp_path, jobs=1, **SMALL | {"classes": SMALL["classes"][::-1]})
    assert set(again.itertuples(index=False)) == set(table.itertuples(index=False))
    for path in table["path"]:
        assert digest(video.read_frames(tmp_path / path)) == digest(video.read_frames(folder / path))


def test_frames_do_not_depend_on_the_hash_seed_of_python():
    code = "import hashlib, numpy as np\nfrom helpers.temporal_coherence.mini import dataset\n"
    code += "frames = np.stack(list(dataset.draw_clip('Bowling', 2, 3, seed=5, frames=(4, 9), size=(60, 80))))\n"
    code += "print(hashlib.sha256(frames.tobytes()).hexdigest())"
    environment = os.environ | {"PYTHONHASHSEED": "123"}
    run = subprocess.run([sys.executable, "-c", code], cwd=runtime.repo_root(), env=environment, capture_output=True)
    assert run.returncode == 0, run.stderr.decode()
    assert run.stdout.decode().strip() == digest(
        dataset.draw_clip("Bowling", 2, 3, seed=5, frames=(4, 9), size=(60, 80))
    )


def test_seed_class_group_and_clip_each_change_the_frames():
    keys = [("Archery", 1, 1, 0), ("Archery", 1, 1, 1), ("Archery", 1, 2, 0), ("Archery", 2, 1, 0), ("Rowing", 1, 1, 0)]
    assert len({digest(dataset.draw_clip(*key[:3], seed=key[3], frames=(4, 4))) for key in keys}) == len(keys)


def test_a_second_run_leaves_whole_files_and_draws_missing_ones(tmp_path):
    options = SMALL | {"classes": ("GolfSwing",), "groups": (1,)}
    table = dataset.make_dataset(tmp_path, jobs=1, **options)
    kept, lost = (tmp_path / path for path in table["path"])
    before, content = kept.stat().st_mtime_ns, digest(video.read_frames(lost))
    lost.unlink()
    assert dataset.make_dataset(tmp_path, jobs=1, **options).equals(table)
    assert kept.stat().st_mtime_ns == before and digest(video.read_frames(lost)) == content


def test_lists_have_the_official_form(drawn, tmp_path):
    folder = dataset.write_lists(tmp_path, drawn[1])
    assert folder == tmp_path / "ucfTrainTestlist"
    lines = {path.stem: path.read_bytes().decode().split("\r\n") for path in folder.iterdir()}
    assert set(lines) == {"classInd", "trainlist01", "testlist01"}
    assert all(rows.pop() == "" and not any("\n" in row for row in rows) for rows in lines.values())
    assert lines["classInd"] == [f"{number} {label}" for label, number in OFFICIAL.items()]
    expected = [f"{label}/v_{label}_g08_c{clip:02d}.avi" for label in ("Archery", "Rowing") for clip in (1, 2)]
    assert lines["trainlist01"] == [f"{path} {OFFICIAL[path.split('/')[0]]}" for path in expected]
    assert lines["testlist01"] == [path.replace("_g08_", "_g01_") for path in expected]


def test_the_header_of_a_truncated_clip_lies(tmp_path):
    path = tmp_path / "v_Rowing_g01_c01.avi"
    count = video.write_video(path, dataset.draw_clip("Rowing", 1, 1, frames=(40, 40)))
    before = path.read_bytes()
    cut = dataset.truncate_clip(path)
    assert cut.name == "v_Rowing_g01_c01_cut.avi" and path.read_bytes() == before
    assert video.header_info(cut)["frames"] == count == 40
    assert 10 < video.count_frames(cut) < 35
    other = dataset.truncate_clip(path, share=0.3, target=tmp_path / "short.avi")
    assert video.count_frames(other) < video.count_frames(cut)


def color_histogram(frames: list[np.ndarray]) -> np.ndarray:
    counts = sum(cv2.calcHist([frame], [0, 1, 2], None, [4, 4, 4], [0, 256] * 3).ravel() for frame in frames[::8])
    return np.sqrt(counts / counts.sum())


def mean_color(frames: list[np.ndarray]) -> np.ndarray:
    return np.stack(frames[::8]).mean(axis=(0, 1, 2))


def motion_map(frames: list[np.ndarray]) -> np.ndarray:
    """Where in the picture how much of the change happens, 8 x 10 cells, the same for a mirrored clip."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) for frame in frames[::2]]
    change = np.mean([np.abs(after - before) for before, after in pairwise(grey)], axis=0)
    cells = np.sqrt(cv2.resize(change / change.sum(), (10, 8), interpolation=cv2.INTER_AREA))
    return np.concatenate([(cells + cells[:, ::-1]).ravel(), np.abs(cells - cells[:, ::-1]).ravel()])


@pytest.fixture(scope="module")
def described():
    """Two clips of each of ten groups a class: labels, groups and one table of numbers for each description."""
    labels, groups, rows = [], [], {color_histogram: [], mean_color: [], motion_map: []}
    for label in dataset.CLASSES:
        for group in range(1, 11):
            for clip in (1, 2):
                frames = list(dataset.draw_clip(label, group, clip, frames=(33, 33)))
                labels.append(label)
                groups.append(group)
                for describe, table in rows.items():
                    table.append(describe(frames))
    return np.array(labels), np.array(groups), {describe: np.array(table) for describe, table in rows.items()}


@pytest.mark.parametrize(
    ("describe", "least", "most"), [(color_histogram, 0, 0.35), (mean_color, 0, 0.35), (motion_map, 0.8, 1)]
)
def test_motion_tells_the_class_of_unseen_groups_and_colour_does_not(described, describe, least, most):
    labels, groups, tables = described
    learner = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    guesses = cross_val_predict(learner, tables[describe], labels, groups=groups, cv=GroupKFold(5))
    assert least <= np.mean(guesses == labels) <= most  # chance is 1/6


@pytest.mark.parametrize("label", dataset.CLASSES)
def test_the_figures_themselves_move_and_not_only_the_camera(label):
    look, frames = stage.draw_look(np.random.default_rng(0)), []
    draw = scenes.SCENES[label](np.random.default_rng(1), look)
    for seconds in np.arange(0, 1.6, 0.16):  # one place, one view: nothing but the scene can differ
        view = stage.Stage(np.zeros((120, 160, 3), np.uint8), look, origin=80 + 60j)
        draw(view, seconds)
        frames.append(view.image)
    changed = [np.any(after != before, axis=-1).mean() for before, after in pairwise(frames)]
    assert np.mean(np.array(changed) > 0.01) > 0.6  # some rest before or after a throw, none stand still


def test_colour_tells_the_group(described):
    labels, groups, tables = described
    table = tables[color_histogram]
    distances = np.linalg.norm(table[:, None] - table[None], axis=-1) + 9 * np.eye(len(table))
    nearest = distances.argmin(axis=1)
    assert np.mean((groups[nearest] == groups) & (labels[nearest] == labels)) > 0.9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": ("Archery", "Chess")}, ["Chess", "Rowing"]),
        ({"frames": (9, 5)}, ["(9, 5)", "least"]),
        ({"frames": (0, 5)}, ["(0, 5)"]),
        ({"size": (8, 80)}, ["(8, 80)", "32"]),
    ],
)
def test_bad_arguments_are_named_before_anything_is_written(tmp_path, change, words):
    with pytest.raises(ValueError) as caught:
        dataset.make_dataset(tmp_path, jobs=1, **SMALL | change)
    assert all(word in str(caught.value) for word in words)
    assert not list(tmp_path.iterdir())


def test_bad_label_and_share():
    with pytest.raises(ValueError, match="Chess"):
        dataset.draw_clip("Chess", 1, 1)
    with pytest.raises(ValueError, match=r"share.*1\.5"):
        dataset.truncate_clip(Path("any.avi"), share=1.5)


def test_a_clip_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "Archery").write_text("a file where the folder should be")
    with pytest.raises(RuntimeError, match="4 of 8 clips"):
        dataset.make_dataset(tmp_path, jobs=1, **SMALL)
