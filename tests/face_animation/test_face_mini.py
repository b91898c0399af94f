"""The puppets: files in VoxCeleb's form, points that lie on what is drawn, motion worth animating, and repeatability."""

import dataclasses
import hashlib
import os
import re
import subprocess
import sys
from itertools import pairwise

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageSequence

from helpers import runtime, video
from helpers.drawing.colour import shade
from helpers.face_animation.mini import dataset, originals, stage
from helpers.face_animation.mini.puppets import POINTS, Pose, make_puppet, plan_motion, puppet_number

NAME = re.compile(r"^(?P<person>id\d{5})#(?P<video>[^#]{11})#(?P<start>\d{6})#(?P<end>\d{6})\.(mp4|gif|png)$")
SMALL = {"people": (3, 3), "clips": 2, "size": 48}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("puppets")
    return folder, dataset.make_dataset(folder, jobs=2, **SMALL)


def read(path, form: str, size: int = 48) -> np.ndarray:
    """The frames of a clip, (T, H, W, 3), by other code than that which wrote them."""
    if form == "mp4":
        return np.stack(list(video.read_frames(path)))
    if form == "frames":
        files = sorted(path.iterdir())
        assert [file.name for file in files] == [f"{index:07d}.png" for index in range(len(files))]
        return np.stack([cv2.imread(str(file))[..., ::-1] for file in files])
    if form == "gif":
        with Image.open(path) as image:
            return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)])
    strip = cv2.imread(str(path))[..., ::-1]
    return np.stack([strip[:, left : left + size] for left in range(0, strip.shape[1], size)])


def digest(frames: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(frames).tobytes()).hexdigest()


def test_names_parse_and_the_table_tells_what_lies_there(drawn):
    folder, table = drawn
    columns = ["clip", "person", "video", "start", "end", "partition", "path", "form", "frames"]
    assert list(table.columns) == columns and len(table) == 12 and table["clip"].is_unique
    there = [f"{part}/{path.name}" for part in ("train", "test") for path in (folder / part).iterdir()]
    assert sorted(there) == sorted(table["path"])
    for row in table.itertuples():
        parts = NAME.match(row.clip).groupdict()
        assert parts["person"] == row.person and parts["video"] == row.video
        assert (int(parts["start"]), int(parts["end"])) == (
            row.start,
            row.end,
        ) and row.path == f"{row.partition}/{row.clip}"
        frames = read(folder / row.path, row.form)
        assert frames.shape == (row.frames, 48, 48, 3) and row.frames == row.end - row.start >= 64
    for _, rows in table.groupby("video"):  # clips of one video do not overlap
        assert all(before <= after for before, after in zip(rows["end"], rows["start"][1:], strict=False))


def test_all_four_forms_occur_on_both_sides(drawn):
    folder, table = drawn
    for _, rows in table.groupby("partition"):
        assert rows["form"].value_counts().to_dict() == {"mp4": 3, "frames": 1, "gif": 1, "strip": 1}
    kinds = {"mp4": ".mp4", "frames": ".mp4", "gif": ".gif", "strip": ".png"}
    for row in table.itertuples():
        path = folder / row.path
        assert path.suffix == kinds[row.form] and path.is_dir() == (row.form == "frames")
        if row.form == "mp4":
            assert video.header_info(path)["fps"] == 25
        if row.form == "gif":
            assert Image.open(path).info["duration"] == 40


def test_metadata_have_the_genuine_form_and_agree_with_the_files(drawn):
    folder, table = drawn
    metadata = pd.read_csv(folder / "vox-metadata.csv")
    genuine = ["video_id", "start", "end", "bbox", "fps", "width", "height", "partition", "person_id"]
    assert list(metadata.columns) == genuine and not metadata.isna().any(axis=None)
    assert metadata.duplicated().sum() == 1
    key = ["person_id", "video_id", "start", "end", "partition"]
    listed = set(metadata[key].itertuples(index=False, name=None))
    there = set(table[["person", "video", "start", "end", "partition"]].itertuples(index=False, name=None))
    gone = {(person, name, int(start), int(end), "train") for person, name, start, end in map(_parts, dataset.BROKEN)}
    assert listed == there | gone and gone.isdisjoint(there) and len(gone) == 1
    boxes = metadata["bbox"].str.fullmatch(r"\d+-\d+-\d+-\d+")
    left, top, right, bottom = metadata["bbox"].str.split("-", expand=True).astype(int).to_numpy().T
    assert boxes.all() and (left >= 0).all() and (top >= 0).all() and (right <= 1280).all() and (bottom <= 720).all()
    assert (bottom - top >= 256).all() and (right - left != bottom - top).any()


def _parts(name: str) -> list[str]:
    return name.removesuffix(".mp4").split("#")


def test_broken_ones_are_not_there(drawn):
    folder, table = drawn
    for name, reason in dataset.BROKEN.items():
        assert NAME.match(name) and reason.startswith("gone")
        assert not list(folder.rglob(f"{name}*")) and name not in set(table["clip"])


def test_puppets_of_the_test_are_unseen_and_no_two_are_alike(drawn):
    _, table = drawn
    persons = table.groupby("partition")["person"].unique()
    assert set(persons["train"]) == {"id10001", "id10002", "id10003"}
    assert set(persons["test"]) == {"id10280", "id10281", "id10282"}
    assert not set(table.loc[table["partition"] == "train", "video"]) & set(
        table.loc[table["partition"] == "test", "video"]
    )
    puppets = [make_puppet(number) for number in range(19)]
    looks = np.array([(*puppet.skin, *puppet.hair, *puppet.nose) for puppet in puppets], float)
    apart = np.abs(looks[:, None] - looks).max(axis=2) + 999 * np.eye(19)
    assert apart.min() > 20 and {puppet.style for puppet in puppets} == {"curls", "mop", "beanie", "cone", "tophat"}
    assert make_puppet(3, seed=0) != make_puppet(3, seed=1)


def test_number_of_jobs_changes_nothing_and_files_that_stand_are_left(drawn, tmp_path):
    folder, table = drawn
    again = dataset.make_dataset(tmp_path, jobs=1, **SMALL)
    assert again.equals(table)
    for name in ("points.csv", "vox-metadata.csv"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    for row in table.itertuples():
        assert digest(read(tmp_path / row.path, row.form)) == digest(read(folder / row.path, row.form))
    kept, lost = (tmp_path / path for path in table.loc[table["form"] == "mp4", "path"][:2])
    before, content = kept.stat().st_mtime_ns, digest(read(lost, "mp4"))
    lost.unlink()
    assert dataset.make_dataset(tmp_path, jobs=1, **SMALL).equals(table)
    assert kept.stat().st_mtime_ns == before and digest(read(lost, "mp4")) == content
    assert (tmp_path / "points.csv").read_bytes() == (folder / "points.csv").read_bytes()


def test_pictures_do_not_depend_on_the_hash_seed_of_python():
    code = "import hashlib\nfrom helpers.face_animation.mini import dataset\n"
    code += "print(hashlib.sha256(dataset.make_pair(1, 2, seed=5, size=32, frames=4).truth.tobytes()).hexdigest())"
    environment = os.environ | {"PYTHONHASHSEED": "123"}
    run = subprocess.run([sys.executable, "-c", code], cwd=runtime.repo_root(), env=environment, capture_output=True)
    assert run.returncode == 0, run.stderr.decode()
    assert run.stdout.decode().strip() == digest(dataset.make_pair(1, 2, seed=5, size=32, frames=4).truth)


def test_workers_do_not_import_a_framework():
    code = "import sys\nfrom helpers.face_animation.mini import dataset\n"
    code += "print({'tensorflow', 'keras', 'jax'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=runtime.repo_root(), capture_output=True)
    assert run.stdout.decode().strip() == "set()", run.stderr.decode()


def lone(monkeypatch, puppet, pose, size, wanted: tuple[int, int, int]) -> np.ndarray:
    """Draw with only those shapes that have the wanted colour: where they are, (size, size) in [0, 1]."""
    whole = stage._Stage.area

    def area(stage, pixels, color):
        whole(stage, pixels, (255, 255, 255) if color == wanted else (0, 0, 0))

    with monkeypatch.context() as patch:
        patch.setattr(stage._Stage, "area", area)
        patch.setattr(stage._Stage, "line", lambda *_: None)
        return stage.draw_puppet(np.zeros((size, size, 3), np.uint8), puppet, pose)[..., 0] / 255


def middle(share: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[: share.shape[0], : share.shape[1]]
    return np.array([(share * x).sum(), (share * y).sum()]) / share.sum()


POSES = {
    "ahead": Pose(),
    "moved": Pose(x=0.03, y=-0.03, roll=0.2),  # both ears stay in the picture
    "turned": Pose(yaw=0.35, pitch=0.1, roll=-0.1, opening=0.8),
    "raised": Pose(yaw=-0.3, pitch=-0.2, opening=0.3),
}


@pytest.mark.parametrize("pose", POSES.values(), ids=POSES)
@pytest.mark.parametrize("size", [64, 128])
def test_points_lie_on_what_is_drawn(monkeypatch, pose, size):
    puppet = dataclasses.replace(make_puppet(2), spots=0, eyebrows=False)
    points = dict(zip(POINTS, stage.puppet_points(puppet, pose, size), strict=True))
    pixel = size / 128

    def share(color):
        return lone(monkeypatch, puppet, pose, size, color)

    eyes, iris = share(stage.WHITE) + share(puppet.iris) + share(stage.DARK), share(stage.DARK)
    between = (points["right_eye"] + points["left_eye"]) / 2
    axis = points["left_eye"] - points["right_eye"]
    y, x = np.mgrid[:size, :size]
    left = (x - between[0]) * axis[0] + (y - between[1]) * axis[1] > 0
    for side, half in (("right", ~left), ("left", left)):
        # Lids cover the upper part, and of two eyes that touch each takes some of the other; a glint is no pupil.
        assert np.linalg.norm(middle(eyes * half) - points[f"{side}_eye"]) < 1.5 * pixel
        assert np.linalg.norm(middle(iris * half) - points[f"{side}_pupil"]) < 1.0 * pixel
    nose = share(puppet.nose)
    assert np.linalg.norm(middle(nose) - points["nose"]) < 1.2 * pixel  # its own glint lies beside it
    chin = share(shade(puppet.skin, 0.74))
    assert np.linalg.norm(middle(chin) - points["chin"]) < 1.0 * pixel
    mouth = share(stage.MOUTH) + share(stage.TONGUE)
    along = np.array([np.cos(pose.roll), np.sin(pose.roll)])
    ys, xs = np.nonzero(mouth > 0.3)
    extent = np.stack([xs, ys], axis=1) @ along
    for name, end in (("right_mouth", extent.min()), ("left_mouth", extent.max())):
        assert abs(points[name] @ along - end) < 3 * pixel + 0.5, name
    ears = share(shade(puppet.skin, 0.62))
    for name, turned_away in (("right_ear", pose.yaw < -0.2), ("left_ear", pose.yaw > 0.2)):
        near = np.hypot(*(points[name] - np.stack([x, y], axis=-1)).transpose(2, 0, 1)) < 12 * pixel
        if turned_away:
            continue  # partly behind the head
        assert np.linalg.norm(middle(ears * near) - points[name]) < 2.5 * pixel, name


def test_points_of_the_file_are_those_of_the_pictures(drawn):
    folder, table = drawn
    points = dataset.read_points(folder)
    assert set(points) == set(table["clip"])
    assert all(points[row.clip].shape == (row.frames, 10, 2) for row in table.itertuples())
    for row in table[table["form"] == "frames"].itertuples():
        frames, nose = read(folder / row.path, row.form), points[row.clip][:, POINTS.index("nose")].round().astype(int)
        color = make_puppet(0 if row.partition == "train" else 3).nose
        error = np.abs(frames[np.arange(row.frames), nose[:, 1], nose[:, 0]].astype(int) - color).max(axis=1)
        assert np.median(error) < 40, row.clip


def test_turning_shifts_nose_and_eyes_against_the_outline():
    puppet = make_puppet(0)
    ahead, turned = (stage.puppet_points(puppet, Pose(yaw=yaw), 128) for yaw in (0.0, 0.4))
    shift = dict(zip(POINTS, turned[:, 0] - ahead[:, 0], strict=True))
    assert shift["nose"] > shift["right_eye"] > 5 and shift["nose"] > shift["left_eye"]  # what stands out moves most
    assert abs(shift["right_ear"]) < 5 and abs(shift["left_ear"]) < 5
    rolled = stage.puppet_points(puppet, Pose(roll=0.3), 128)
    sides = rolled[POINTS.index("left_eye")] - rolled[POINTS.index("right_eye")]
    assert np.arctan2(sides[1], sides[0]) == pytest.approx(0.3, abs=0.01)
    nod = stage.puppet_points(puppet, Pose(pitch=0.3), 128)[POINTS.index("nose"), 1]
    assert nod > ahead[POINTS.index("nose"), 1] + 5
    talk = stage.puppet_points(puppet, Pose(opening=1), 128)[POINTS.index("chin"), 1]
    assert talk > ahead[POINTS.index("chin"), 1] + 5


def test_copying_the_source_is_clearly_wrong_and_the_wall_stands_still(drawn):
    folder, table = drawn
    for row in table.itertuples():
        frames = read(folder / row.path, row.form)
        values = frames.astype(np.float32) / 255
        assert np.abs(values - values[0]).mean() > 0.035, row.clip
        if row.form in ("frames", "strip"):  # without loss
            assert (frames == frames[0]).all(axis=(0, 3)).mean() > 0.15
            assert all((before != after).any() for before, after in pairwise(frames))


def test_clips_of_a_video_share_the_wall_and_differ_in_motion(drawn):
    folder, table = drawn
    first, second = table[table["video"] == table["video"][0]].itertuples()
    corner = [np.median(read(folder / row.path, row.form)[:, :8, :3], axis=0) for row in (first, second)]
    assert np.abs(corner[0] - corner[1]).mean() < 4
    points = dataset.read_points(folder)
    assert np.abs(points[first.clip][:64] - points[second.clip][:64]).mean() > 1


def test_every_part_of_a_puppet_moves():
    poses = plan_motion(np.random.default_rng(0), 100)
    table = np.array([dataclasses.astuple(pose) for pose in poses])
    assert (np.ptp(table, axis=0) > (0.05, 0.02, 0.5, 0.2, 0.12, 0.6, 0.8, 1.2, 0.8)).all()
    assert table[:, 5:7].min() >= 0 and table[:, 5:7].max() <= 1


def test_a_pair_tells_the_animation_that_is_wanted():
    same, cross = dataset.make_pair(1, 1, size=64, frames=20), dataset.make_pair(1, 2, size=64, frames=20)
    assert same.driving.shape == same.truth.shape == (20, 64, 64, 3) and same.driving.dtype == np.uint8
    assert (same.truth == same.driving).all() and (same.source == same.driving[0]).all()
    assert (cross.source == cross.truth[0]).all() and (cross.source_points == cross.truth_points[0]).all()
    assert np.allclose(cross.source_points, stage.puppet_points(make_puppet(1), Pose(), 64), atol=1e-3)
    nose = POINTS.index("nose")
    motion, wanted = (points[:, nose] - points[0, nose] for points in (cross.driving_points, cross.truth_points))
    assert np.ptp(motion[:, 0]) > 3 and np.corrcoef(motion[:, 0], wanted[:, 0])[0, 1] > 0.9


def test_originals_hold_the_clips_where_the_metadata_say(drawn, tmp_path):
    folder, table = drawn
    rows = table.head(2)
    (path,) = originals.make_originals(tmp_path, rows, jobs=1)
    assert path.name == f"{rows['video'][0]}.mp4" and video.header_info(path)["fps"] == 25
    frames = np.stack(list(video.read_frames(path)))
    assert frames.shape[1:] == (360, 640, 3) and len(frames) >= rows["end"].max()
    metadata = pd.read_csv(folder / "vox-metadata.csv")
    for row in rows.itertuples():
        found = metadata[(metadata["video_id"] == row.video) & (metadata["start"] == row.start)]
        left, top, right, bottom = (int(side) // 2 for side in found["bbox"].iloc[0].split("-"))
        clip = read(folder / row.path, row.form)
        for index in (0, 30, row.frames - 1):
            cut = cv2.resize(frames[row.start + index, top:bottom, left:right], (48, 48), interpolation=cv2.INTER_AREA)
            assert np.abs(cut.astype(int) - clip[index]).mean() < 12  # two codecs; another moment is 25 off
        assert frames[row.start - 1, top:bottom, left:right, 1].mean() < 60  # the curtain is closed


def test_more_puppets_are_others_and_leave_the_rest_as_it_was(tmp_path):
    options = {"people": (2, 2), "clips": 1, "size": 32, "jobs": 1}
    few, many = (dataset.make_dataset(tmp_path / str(more), more=more, **options) for more in (0, 2))
    added = many[~many["clip"].isin(few["clip"])]
    assert len(added) == 2 and set(added["partition"]) == {"train"} and not set(added["person"]) & set(few["person"])
    assert many[many["clip"].isin(few["clip"])].reset_index(drop=True).equals(few)
    for row in few.itertuples():
        assert np.array_equal(read(tmp_path / "0" / row.path, row.form), read(tmp_path / "2" / row.path, row.form))
    names = [puppet_number(name) for name in many["video"]]
    assert sorted(names) == [0, 1, 2, 3, 4, 5] and {4, 5} == {puppet_number(name) for name in added["video"]}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"people": (270, 2), "more": 9}, "278"),
        ({"more": -1}, "more=-1"),
        ({"people": (0, 2)}, "people must be two numbers"),
        ({"people": (300, 2)}, "278"),
        ({"clips": 0}, "clips 1 to 20"),
        ({"size": 47}, "size must be even"),
        ({"size": 16}, "32 pixels or more"),
    ],
)
def test_numbers_that_make_no_dataset_are_named(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        dataset.make_dataset(tmp_path, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [{"source": -1}, {"frames": 1}, {"size": 33}])
def test_a_pair_that_cannot_be_is_named(arguments):
    with pytest.raises(ValueError, match="Received"):
        dataset.make_pair(**arguments)
