"""Clips on disk, groups, pairs, batches: against pictures drawn here, Pillow and scipy."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.ndimage
from PIL import Image

from helpers import video
from helpers.face_animation import batches, data
from helpers.face_animation.batches import Batches, augment

NAMES = [f"id{person}#v{person}#{start:06d}#{start + 9:06d}.mp4" for person in range(6) for start in range(person + 2)]


def frames_of(count, size=16, seed=0):
    """Frames that differ in their mean level by 8, smooth enough for any codec."""
    ramp = np.linspace(0, 30, size)[:, None, None] + np.zeros((1, size, 3))
    return np.stack([ramp + 8 * number + [0, 20, 40] for number in range(count)]).astype(np.uint8)


def write_folder(path, frames, *, name="{:07d}.png"):
    path.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(path / name.format(number))


def write_form(form, path, frames):
    if form == "folder":
        write_folder(path, frames)
    elif form == "gif":
        first, *rest = [Image.fromarray(frame) for frame in frames]
        first.save(path, save_all=True, append_images=rest, duration=40)
    elif form == "strip":
        Image.fromarray(np.concatenate(frames, axis=1)).save(path)
    else:
        video.write_video(path, frames)


FORMS = [("folder", "a#b.mp4", 0), ("video", "a.mp4", 6), ("gif", "a.gif", 10), ("strip", "a.png", 0)]


@pytest.mark.parametrize(("form", "name", "tolerance"), FORMS)
def test_four_forms_give_the_same_frames(tmp_path, form, name, tolerance):
    frames, path = frames_of(12), tmp_path / name
    write_form(form, path, frames)
    assert data.form_of(path) == form
    found = data.read_clip(path)
    assert found.shape == frames.shape and found.dtype == np.uint8
    assert np.abs(found.astype(int) - frames).max() <= tolerance
    numbers = [7, 2, 7, 11]
    np.testing.assert_array_equal(data.read_frames(path, numbers), found[numbers])
    for bad in ([12], [-1]):
        with pytest.raises(IndexError, match=f"no frame {bad[0]}"):
            data.read_frames(path, bad)


def test_strips_of_other_shapes_and_colours(tmp_path):
    frames = frames_of(4)[:, :, :8]
    strip = np.concatenate(frames, axis=1)
    alpha = np.dstack([strip, np.full(strip.shape[:2], 9, np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    Image.fromarray(strip[:, :, 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(data.read_clip(tmp_path / "alpha.png", frame_shape=(16, 8)), frames)
    grey = data.read_clip(tmp_path / "grey.png", frame_shape=(16, 8))
    np.testing.assert_array_equal(grey, frames[..., :1].repeat(3, axis=-1))
    with pytest.raises(ValueError, match="32x16 pixels are no row of frames of 5x16"):
        data.read_clip(tmp_path / "alpha.png", frame_shape=(16, 5))


def test_pictures_of_a_folder_in_order_of_time(tmp_path):
    frames = frames_of(12)
    write_folder(tmp_path / "clip", frames[::-1], name="frame-{}.png")
    (tmp_path / "clip" / "notes.txt").write_text("no picture")
    np.testing.assert_array_equal(data.read_clip(tmp_path / "clip"), frames[::-1])
    Image.fromarray(frames[0, :8]).save(tmp_path / "clip" / "frame-12.png")
    with pytest.raises(ValueError, match="different sizes"):
        data.read_clip(tmp_path / "clip")
    (tmp_path / "clip" / "frame-12.png").write_bytes(b"")
    with pytest.raises(ValueError, match="no readable picture"):
        data.read_clip(tmp_path / "clip")


@pytest.mark.parametrize(("name", "error"), [("none", FileNotFoundError), ("a.txt", ValueError), ("empty", ValueError)])
def test_what_is_no_clip(tmp_path, name, error):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=r"no clip at .*expected"):
        data.read_clip(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("id10001#7#_x#000012#000234.mp4", ("id10001", "7#_x", 12, 234)), ("id1#v#000001#000002 (1).mp4", ("id1", "v", 1, 2)),
     ("id1#v#000001#000002", ("id1", "v", 1, 2)), ("me#holiday.gif", ("me", "", -1, -1)), ("me.mov", ("me", "", -1, -1))],
)  # fmt: skip
def test_names(name, expected):
    assert data.parse_name(name) == expected
    if expected[2] > 0 and name.endswith(".mp4") and "(" not in name:
        assert data.clip_name(*expected) == name


def test_table_of_clips(tmp_path):
    write_form("folder", tmp_path / "train" / "id1#v#000001#000004.mp4", frames_of(3))
    write_form("gif", tmp_path / "train" / "me.gif", frames_of(4))
    (tmp_path / "train" / "broken.mp4").write_bytes(b"x")
    (tmp_path / "train" / ".hidden.mp4").write_bytes(b"x")
    (tmp_path / "test").mkdir()
    write_form("strip", tmp_path / "test" / "you.png", frames_of(5))
    table = data.find_clips(tmp_path)
    rows = table.set_index("clip")[["person", "partition", "path", "form", "frames"]]
    assert rows.loc["id1#v#000001#000004.mp4"].tolist() == [
        "id1", "train", "train/id1#v#000001#000004.mp4", "folder", 3,
    ]  # fmt: skip
    assert rows.loc["me.gif"].tolist() == ["me", "train", "train/me.gif", "gif", 4]
    assert rows.loc["you.png"].tolist() == ["you", "test", "test/you.png", "strip", 5]
    assert len(table) == 4 and table.set_index("clip").loc["broken.mp4", ["frames"]].item() == 0
    assert "not one frame" in table.set_index("clip").loc["broken.mp4", "error"]
    (tmp_path / "test" / "you.png").unlink()
    (tmp_path / "test").rmdir()
    with pytest.raises(FileNotFoundError, match="expected a folder with train/ and test/"):
        data.find_clips(tmp_path)


def test_a_folder_without_sides_is_split_by_person(tmp_path):
    for name in NAMES:
        (tmp_path / name).write_bytes(b"")
    table = data.find_clips(tmp_path, count=False)
    sides = table.groupby("person")["partition"].nunique()
    assert (sides == 1).all() and set(table["partition"]) == {"train", "test"}
    train, test = data.split_names([f"me#{n}.mp4" for n in range(10)])
    assert (len(train), len(test)) == (8, 2) and not set(train) & set(test)


def test_resize_is_bilinear_after_a_gaussian():
    image = np.random.default_rng(0).integers(0, 256, (60, 45, 3), np.uint8)
    smooth = scipy.ndimage.gaussian_filter(image.astype(float), (1, 0.25, 0), mode="mirror")  # (60/20-1)/2, (45/30-1)/2
    rows, columns = (np.arange(20) + 0.5) * 3 - 0.5, (np.arange(30) + 0.5) * 1.5 - 0.5
    grid = np.meshgrid(rows, columns, indexing="ij")
    expected = np.stack(
        [scipy.ndimage.map_coordinates(smooth[..., c], grid, order=1, mode="nearest") for c in range(3)], -1
    )
    assert np.abs(data.resize(image, (20, 30)) - expected).max() <= 1
    assert data.resize(image, (60, 45)) is image


# ---- groups


@pytest.mark.parametrize(
    ("options", "sizes"),
    [({"group_size": 10}, [10, 10, 7]), ({"group_size": 10, "drop_remainder": True}, [10, 10]), ({"group_size": 27}, [27]),
     ({"n_groups": 4}, [6, 7, 7, 7]), ({"n_groups": 4, "drop_remainder": True}, [6, 6, 6, 6]), ({"n_groups": 27}, [1] * 27),
     ({"n_groups": 9}, [3] * 9)],
)  # fmt: skip
def test_groups_are_exclusive_and_depend_on_the_seed_alone(options, sizes):
    groups = data.sample_groups(NAMES, **options)
    assert sorted(map(len, groups)) == sorted(sizes)
    members = [name for group in groups for name in group]
    assert len(set(members)) == len(members) and set(members) <= set(NAMES)
    assert len(members) == len(NAMES) or options.get("drop_remainder")
    shuffled = list(np.random.default_rng(1).permutation(NAMES)) + NAMES[:3]
    np.random.seed(5)  # noqa: NPY002  (the global state must not matter)
    assert data.sample_groups(shuffled, **options) == groups
    assert data.sample_groups(NAMES, **options, seed=43) != groups


def test_groups_are_slices_of_the_permutation_of_sorted_names():
    drawn = [sorted(NAMES)[index] for index in np.random.default_rng(42).permutation(27)]
    assert data.sample_groups(NAMES[::-1], 10) == [drawn[:10], drawn[10:20], drawn[20:]]


def test_copies_of_drive_are_left_out_and_told(capsys):
    names = ["a#1.mp4", "a#1 (1).mp4", "a#1 (2).mp4", "b#1 (1).mp4", "c (3) d.mp4", "e", "e (1)"]
    groups = data.sample_groups(names, n_groups=1)
    assert sorted(groups[0]) == ["a#1.mp4", "b#1 (1).mp4", "c (3) d.mp4", "e"]
    captured = capsys.readouterr()
    assert "3 name(s) are second copies" in captured.out and not captured.err


@pytest.mark.parametrize("options", [{"n_groups": 3}, {"group_size": 9}, {"n_groups": 3, "drop_remainder": True}])
def test_no_person_in_two_groups(options):
    groups = data.sample_groups(NAMES, by_person=True, **options)
    persons = [{name.split("#")[0] for name in group} for group in groups]
    assert len(groups) == 3 and sum(map(len, persons)) == len(set.union(*persons))
    if options.get("drop_remainder"):
        assert len(set(map(len, groups))) == 1
    else:
        assert sum(map(len, groups)) == 27


@pytest.mark.parametrize(
    ("options", "message"),
    [({}, "exactly one"), ({"group_size": 2, "n_groups": 2}, "exactly one"), ({"group_size": 0}, "allowed: 1 to 27"),
     ({"n_groups": 28}, "n_groups: received 28"), ({"group_size": 2.0}, "allowed"), ({"group_size": True}, "allowed"),
     ({"n_groups": 7, "by_person": True}, "there are 6")],
)  # fmt: skip
def test_impossible_groups(options, message):
    with pytest.raises(ValueError, match=message):
        data.sample_groups(NAMES, **options)


def test_groups_file(tmp_path):
    groups, path = data.sample_groups(NAMES, 10), tmp_path / "groups.json"
    data.write_groups(path, groups, seed=42)
    assert data.read_groups(path) == groups == data.read_groups(path, names=NAMES)
    with pytest.raises(ValueError, match="1 clips are not there any more"):
        data.read_groups(path, names=set(NAMES) - {groups[1][0]})
    content = json.loads(path.read_text())
    assert (content["seed"], content["n"], content["by_person"]) == (42, 27, False)
    content["groups"][0][0] = "other.mp4"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="sha256 differs"):
        data.read_groups(path)
    data.write_groups(path, [["a"], ["a"]], seed=1)
    with pytest.raises(ValueError, match="in two groups"):
        data.read_groups(path)


def test_the_originals_text_format(tmp_path):
    path = tmp_path / "batches.txt"
    path.write_text("3 0 \n1 2 \n")
    assert data.read_upstream_groups(path) == [[3, 0], [1, 2]]
    assert data.read_upstream_groups(path, list("abcd")) == [["d", "a"], ["b", "c"]]
    for text, message in (("4 0", "4 is beyond"), ("1 1", "two groups"), ("-1", "below 0"), ("x", "whole numbers")):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            data.read_upstream_groups(path, list("abcd"))


def test_pairs(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("distance,source,driving,frame\n1,a,b,0\n2,c,a,5\n3,b,a,1\n4,b,b,1\n")
    assert data.read_pairs(path, names="ab", limit=2).to_numpy().tolist() == [["a", "b"], ["b", "a"]]
    assert len(data.read_pairs(path)) == 4
    path.write_text("source,target\n")
    with pytest.raises(ValueError, match="no column driving; it has: source, target"):
        data.read_pairs(path)
    drawn = data.draw_pairs(list("abcd"), 3)
    # the original's way: 3 of 9 pairs of the first 3, (driving, source)
    np.random.seed(0)  # noqa: NPY002
    pairs = np.mgrid[:3, :3].reshape(2, -1).T.take(np.random.choice(9, 3, replace=False), axis=0)  # noqa: NPY002
    assert drawn[["driving", "source"]].to_numpy().tolist() == [["abc"[d], "abc"[s]] for d, s in pairs]


# ---- augmentation and batches


def still(**options):
    return {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, **options}


def test_half_are_swapped_a_quarter_mirrored():
    pair = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), np.uint8)
    kinds = {"swap": pair[::-1], "mirror": pair[:, :, ::-1], "same": pair}
    seen = dict.fromkeys(kinds, 0)
    generator = np.random.default_rng(1)
    for _ in range(2000):
        changed = augment(pair, generator, **still())
        (kind,) = [name for name, expected in kinds.items() if np.array_equal(changed, expected)]
        seen[kind] += 1
    assert abs(seen["swap"] - 1000) < 100 and abs(seen["mirror"] - 500) < 90 and abs(seen["same"] - 500) < 90


GREY = [0.299, 0.587, 0.114]


@pytest.mark.parametrize(("name", "place"), [("brightness", 0), ("saturation", 1), ("contrast", 2)])
def test_one_factor_blends_with_its_picture(name, place):
    image = np.random.default_rng(0).integers(30, 200, (8, 6, 3), np.uint8)
    grey = image @ GREY
    other = {"brightness": 0, "saturation": grey[..., None], "contrast": np.floor(grey.mean() + 0.5)}[name]
    for factor in (0.9, 1.1):
        factors = np.ones(3)
        factors[place] = factor
        found = batches._jitter(image, factors, 0, np.arange(4)).astype(float)
        expected = other + factor * (image - other)
        assert np.abs(found - expected).max() <= 1.5 and np.abs(found - image).max() > 3
    changed = augment(np.stack([image, image]), np.random.default_rng(2), **still(**{name: 0.1}))
    np.testing.assert_array_equal(*changed)  # both frames alike


def test_hue_turns_in_steps_of_eight_bits_and_wraps():
    for shift in (0.1, -0.1):
        image = Image.fromarray(np.array([[[200, 10, 10], [10, 200, 10], [90, 90, 90]]], np.uint8))
        before, after = (
            np.asarray(picture.convert("HSV"), int) for picture in (image, batches.shift_hue(image, shift))
        )
        turned = (after[0, :2, 0] - before[0, :2, 0]) % 256
        wanted = int(shift * 255) % 256  # 25 and -25: cut off towards zero
        assert np.abs(turned - wanted).max() <= 1
        np.testing.assert_array_equal(np.asarray(batches.shift_hue(image, shift))[0, 2], [90, 90, 90])
    assert batches.shift_hue(image, 0) is image


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    for place, name in enumerate(("id1#v#000000#000006.mp4", "id1#w#000000#000006.mp4", "id2#v#000000#000006.mp4")):
        write_folder(root / name, np.clip(frames_of(6) + 60 * place, 0, 255).astype(np.uint8))
    return root


@pytest.fixture
def clips(root):
    return data.find_clips(root).sort_values("clip").reset_index(drop=True)


def number_and_clip(frame):
    """Which frame of which clip a picture is, by its corner's level of red."""
    place, rest = divmod(round(float(frame[0, 0, 0]) * 255), 60)
    return rest // 8, place


def test_batches_depend_on_seed_and_step_alone(root, clips):
    options = {"batch_size": 2, "size": (16, 16), "repeats": 3}
    first = Batches(clips, root, **options)
    assert first.steps_per_epoch == 4
    forward = [first.batch(step) for step in range(6)]
    other = Batches(clips, root, **options, keep=3)  # in memory: the same
    for step in (5, 2, 0):
        for name in ("source", "driving"):
            np.testing.assert_array_equal(other.batch(step)[name], forward[step][name])
    assert forward[0]["source"].shape == (2, 16, 16, 3) and forward[0]["source"].dtype == np.float32
    values = forward[0]["source"]
    assert values.min() >= 0 and 0.3 < values.max() <= 1
    changed = Batches(clips, root, **options, seed=1)
    assert any(not np.array_equal(changed.batch(step)["source"], forward[step]["source"]) for step in range(3))


@pytest.mark.parametrize(("by_person", "expected"), [(False, [8, 8, 8]), (True, [12, 12])])
def test_an_epoch_takes_every_clip_or_person_alike_and_the_earlier_frame_is_the_source(
    root, clips, by_person, expected
):
    made = Batches(
        clips,
        root,
        batch_size=4,
        size=(16, 16),
        repeats=sum(expected) // len(expected),
        by_person=by_person,
        augmentation=False,
    )
    seen, pairs = [], []
    for step in range(made.steps_per_epoch):
        batch = made.batch(step)
        for source, driving in zip(batch["source"], batch["driving"], strict=True):
            (first, clip), (second, same) = number_and_clip(source), number_and_clip(driving)
            assert clip == same and first <= second
            seen.append(clip)
            pairs.append((first, second))
    units = [int(clips["person"][clip][2:]) if by_person else clip for clip in seen]
    assert np.unique(units, return_counts=True)[1].tolist() == expected
    assert set(seen) == {0, 1, 2}
    assert len(set(pairs)) > 8 and any(first == second for first, second in pairs)


def test_batches_say_what_does_not_work(root, clips):
    with pytest.raises(ValueError, match="batch_size: received 4; allowed: 1 to 3"):
        Batches(clips, root, batch_size=4)
    with pytest.raises(ValueError, match=r"'id1#v#000000#000006.mp4' has no frames"):
        Batches(clips.assign(frames=0), root, batch_size=1)


def test_batches_resize(root, clips):
    batch = Batches(pd.DataFrame(clips), root, batch_size=1, size=(8, 12), augmentation=False).batch(0)
    assert batch["source"].shape == (1, 8, 12, 3)
