"""The five steps of face_animation end to end: on a few puppets, own clips, and own copies of VoxCeleb's videos."""

from helpers import runtime

runtime.quiet_start()

import dataclasses
import struct

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import video, workspace
from helpers.batches import SIDES
from helpers.face_animation import animate, data, metrics, runs, splits, steps
from helpers.face_animation.config import FaceAnimationConfig
from helpers.face_animation.evaluation import scoring
from helpers.face_animation.mini import dataset, originals
from helpers.face_animation.sources import local, voxceleb
from helpers.fetch import manifests

CONFIG = FaceAnimationConfig(
    source="mini", size=32, n_groups=2, by_person=True, seed=3, pairs=3, variants=("fomm", "unet"), network="tiny64",
    perceptual="stand_in", generator_gan=0.0, epochs=1, repeats=2, batch_size=2, watch_pairs=2, keep_clips=4,
    test_clips=2, test_frames=3, allow_cpu=True, start="first",
)  # fmt: skip
TINY = {
    "num_keypoints": 3,
    "detector": {"width": 4, "max_width": 8, "num_blocks": 1, "scale": 0.5},
    "generator": {"width": 4, "max_width": 8, "num_downs": 1, "num_residuals": 1, "motion_width": 4, "motion_max_width": 8}
    | {"motion_blocks": 1, "scale": 0.5},
    "discriminator": {"width": 4, "max_width": 8, "num_blocks": 2},
}  # fmt: skip


def puppets(count=4, size=(40, 48), seed=0):
    """Frames of a head that moves, (count, *size, 3) uint8."""
    pair = dataset.make_pair(seed, seed, size=48, frames=max(2, count))
    return np.stack([cv2.resize(frame, size[::-1]) for frame in pair.driving[:count]])


def go(config, place, until="evaluate"):
    """All steps up to one, by name."""
    names = [step.name for step in steps.STEPS]
    return {step.name: step(config, place) for step in steps.STEPS[: names.index(until) + 1]}


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


@pytest.fixture(scope="module", autouse=True)
def small():
    """A few puppets, and networks of a few layers: what is tested here does not depend on their size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "MINI", {"people": (4, 3), "clips": 1})
        for network in ("tiny64", "vox256"):
            patch.setitem(runs.WIDTHS, network, TINY)
        yield


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    place = tmp_path_factory.mktemp("workspace")
    return CONFIG, place, go(CONFIG, place)


def test_counts_agree_from_step_to_step(finished):
    _, _, done = finished
    found = done["build_dataset"]
    assert found["clips"] == {"train": 4, "test": 3} and (found["persons"], found["left_out"]) == (7, 0)
    forms = found.table("clips").groupby("partition")["form"].apply(sorted).to_dict()
    assert forms == {"train": ["folder", "gif", "strip", "video"], "test": ["folder", "gif", "strip"]}
    assert done["preprocess"]["frames"] == found["frames"] == len(pd.read_csv(found.folder / "clips" / "points.csv"))
    assert (done["preprocess"]["clips"], done["preprocess"]["failed"]) == (7, 0)
    assert done["split"].found == {"groups": [2, 2], "test": 3, "shared_persons": 0, "pairs": 3}
    assert done["train"]["clips"] == 2 and done["train"]["steps"] == 2
    assert (done["evaluate"]["clips"], done["evaluate"]["frames"]) == (2, 4)  # three frames each, the first was given


def test_prepared_clips_are_all_of_one_form_and_size(finished):
    _, _, done = finished
    source, target = (done[name].table("clips").set_index("clip") for name in ("build_dataset", "preprocess"))
    assert set(target["form"]) == {"folder"} and (target["error"] == "").all()
    for clip, row in target.iterrows():
        frames = data.read_clip(done["preprocess"].folder / "clips" / row["path"])
        assert frames.shape == (row["frames"], 32, 32, 3) and row["path"].endswith(".mp4")
        whole = data.read_clip(done["build_dataset"].folder / "clips" / source.loc[clip, "path"])
        shrunk = np.stack([cv2.resize(frame, (32, 32), interpolation=cv2.INTER_AREA) for frame in whole])
        assert np.abs(shrunk.astype(float) - frames).mean() < 6  # the same frames in the same order
        assert np.abs(shrunk[::-1].astype(float) - frames).mean() > 6 or len(whole) < 9


def test_the_groups_hold_every_training_clip_once(finished):
    config, place, done = finished
    clips = done["split"].table("clips")
    groups = splits.read_groups(done["split"].folder / "groups.json", names=clips["clip"])
    train = clips[clips["partition"] == "train"]
    assert sorted(groups[0] + groups[1]) == sorted(train["clip"])
    assert all(set(train.loc[train["group"] == number, "clip"]) == set(group) for number, group in enumerate(groups))
    assert (clips.loc[clips["partition"] == "test", "group"] == splits.NO_GROUP).all()
    sides = {side: set(steps.clips_of(config, place, side)["clip"]) for side in ("train", "validation", "test")}
    assert (sides["train"], sides["validation"]) == (set(groups[0]), set(groups[1]))
    assert sides["test"] == set(clips.loc[clips["partition"] == "test", "clip"])
    other = dataclasses.replace(config, group=1)
    steps.split(other, place)
    swapped = [set(steps.clips_of(other, place, side)["clip"]) for side in ("validation", "train")]
    assert swapped == [set(group) for group in groups]
    pairs = done["split"].table("pairs")
    assert set(pairs.stack()) <= sides["test"] and (pairs["source"] != pairs["driving"]).all()  # each of two persons
    assert not pairs.duplicated().any()


def test_every_phase_gets_the_clips_of_its_side(finished, monkeypatch, tmp_path):
    config, place, _ = finished
    place, saw = workspace.as_workspace(place), {}
    names = {side: sorted(steps.clips_of(config, place, side)["clip"]) for side in SIDES}
    assert len(set(map(tuple, names.values()))) == 3 and all(names.values())

    def tell(module, name, number, result):
        def spy(*arguments, **options):
            saw[name] = sorted(arguments[number]["clip"])
            return result

        monkeypatch.setattr(module, name, spy)

    log = pd.DataFrame({"step": [1], "watch_l1": [0.1], "time": "", "saved": True})
    monkeypatch.setattr(runs, "train_one", lambda *arguments, **options: log)
    tell(runs, "batches_of", 1, None)
    tell(runs, "watched_pairs", 1, None)
    steps.train.body(config, place, tmp_path)
    assert saw == {"batches_of": names["train"], "watched_pairs": names["validation"]}

    saw.clear()
    table = pd.DataFrame(
        {"drawer": ["a"], "clip": ["x"], "frames": [1], "l1": [0.1], "psnr": [1.0], "ssim": [1.0], "sharpness": [1.0]}
    )
    monkeypatch.setattr(steps, "load_animators", lambda *_: dict.fromkeys(config.variants))
    monkeypatch.setattr(steps, "with_points", lambda config, place, side: side)
    sides = []
    points = pd.DataFrame({"drawer": ["a"], "keypoint_error": [1.0]})
    monkeypatch.setattr(scoring, "follow_points", lambda _, *parts: sides.extend(parts) or points)
    tell(scoring, "score_all", 1, table)
    tell(scoring, "animate_pairs", 1, table)
    tell(scoring, "measure_all", 1, table)
    steps.evaluate.body(config, place, tmp_path)
    scored = sorted(steps.clips_of(config, place, "test")["clip"].head(config.test_clips))
    assert saw == {"score_all": scored, "animate_pairs": names["test"], "measure_all": scored}
    assert sides == ["train", "test"]  # the map to known points is fitted on the first


def test_training_leaves_weights_logs_and_pictures_of_each_variant(finished):
    config, _, done = finished
    curves = done["train"].table("curves")
    assert curves["variant"].tolist() == ["fomm", "unet"] and curves["epoch"].tolist() == [1, 1]
    assert {"loss", "perceptual", "equivariance_value", "equivariance_jacobian", "watch_l1"} <= set(curves)
    assert not {"gen_gan", "time", "saved"} & set(curves)
    for variant, row in curves.set_index("variant").iterrows():
        folder = done["train"].folder / variant
        assert {path.name for path in folder.glob("*.h5")} == {
            "final.weights.h5", "kp_detector.weights.h5", "generator.weights.h5"
        }  # fmt: skip
        assert Image.open(folder / "seen" / "0001.png").size[0] > 5 * 32
        assert done["train"]["watch_l1"][variant] == pytest.approx(row["watch_l1"], abs=6e-5)
        trained, fresh = runs.load_networks(config, variant, folder), runs.load_networks(config, variant)
        for one, two in zip(trained, fresh, strict=True):
            moved = [np.abs(a - b).max() for a, b in zip(one.get_weights(), two.get_weights(), strict=True)]
            assert 0 < max(moved) < 1  # trained, but from these first weights


def test_tables_of_the_evaluation(finished):
    config, place, done = finished
    found, drawers = done["evaluate"], [scoring.COPY]
    drawers += [name + tail for name in config.variants for tail in ("", ", untrained")]
    scores, clips, speed = (found.table(name) for name in ("scores", "clips", "speed"))
    assert scores["drawer"].tolist() == drawers
    assert list(scores) == ["drawer", *scoring.SCORES, "keypoint_error"] and scores.notna().all(axis=None)
    assert list(clips) == ["drawer", "clip", "frames", *scoring.SCORES] and len(clips) == 2 * len(drawers)
    assert list(speed) == ["variant", "detector_parameters", "detector_mmac", "generator_parameters", "generator_mmac",
                           "ms_per_frame"]  # fmt: skip
    assert speed["variant"].tolist() == list(config.variants) and (speed.iloc[:, 1:] > 0).all(axis=None)
    assert found["l1"] == pytest.approx(dict(zip(drawers, scores["l1"], strict=True)), abs=6e-5)
    test = steps.clips_of(config, place, "test").head(2)
    copies = []
    for path, count in zip(test["path"], test["frames"], strict=True):
        clip = data.read_clip(done["preprocess"].source_root / path)
        clip = clip[[0, round((count - 1) / 2), count - 1]] / 255
        copies.append(np.abs(clip[1:] - clip[:1]).mean())
    assert scores["l1"][0] == pytest.approx(np.mean(copies), rel=1e-5)  # two frames of either clip


def test_published_networks_are_scored_on_the_test_clips_beside_a_copy_of_the_source(finished):
    config, place, done = finished
    test, second, names = (
        steps.clips_of(config, place, "test").head(2),
        np.array([False, True]),
        ["l1", "ssim", "sharpness"],
    )
    persons, score = scoring.on_test(config, done, None)
    assert persons.tolist() == test["person"].tolist() and len(set(persons)) == 2
    row = test.iloc[1]
    clip = data.read_frames(
        done["preprocess"].source_root / row["path"], [0, round((row["frames"] - 1) / 2), row["frames"] - 1]
    )
    copy = np.stack([clip[0], clip[0]])
    expected = [getattr(metrics, name)(copy, clip[1:]).mean() for name in names]
    assert score(second) == pytest.approx(dict(zip(names, expected, strict=True)))
    folder = done["train"].folder / "unet"
    networks = dict(zip(runs.PARTS, runs.load_networks(config, "unet", folder), strict=True))
    _, score = scoring.on_test(config, done, networks)
    clips, scores = (done["evaluate"].table(name).query("drawer == 'unet'") for name in ("clips", "scores"))
    for kept, table in ((second, clips[clips["clip"] == row["clip"]]), (~second, clips[clips["clip"] != row["clip"]])):
        assert score(kept) == pytest.approx(table[names].iloc[0].to_dict(), rel=1e-5)
    assert score(second | ~second) == pytest.approx(scores[names].iloc[0].to_dict(), rel=1e-5)


def test_animations_show_source_driving_and_every_variant(finished):
    config, place, done = finished
    pairs, wanted = done["evaluate"].table("pairs"), done["split"].table("pairs")
    assert pairs[["source", "driving"]].equals(wanted) and pairs["file"].tolist() == ["000.mp4", "001.mp4", "002.mp4"]
    scored = set(done["evaluate"].table("clips")["clip"])
    assert set(wanted.stack()) - scored  # test_clips is less than all, and no limit to the animations
    pair = pairs.iloc[1]
    clips = np.stack(list(video.read_frames(done["evaluate"].folder / "animations" / pair["file"])))
    test, root = steps.clips_of(config, place, "test").set_index("clip"), done["preprocess"].source_root
    driving = data.read_clip(root / test.loc[pair["driving"], "path"])
    still = data.read_clip(root / test.loc[pair["source"], "path"])[0]
    assert clips.shape == (len(driving), 32, 4 * 32, 3)
    parts = np.split(clips.astype(float), 4, axis=2)
    assert np.abs(parts[0] - still).mean() < 12 and np.abs(parts[1] - driving).mean() < 12  # the codec
    assert np.abs(parts[0] - driving).mean() > 12
    variant = config.variants[-1]
    animator = animate.Animator(*runs.load_networks(config, variant, done["train"].folder / variant), batch_size=16)
    options = {"relative": config.relative, "adapt_scale": config.adapt_scale, "start": config.start}
    expected = animator.animate(still, driving, **options)
    assert np.abs(parts[3] - expected).mean() < 12


def test_a_rerun_does_nothing_and_only_what_decides_makes_new_folders(finished):
    config, place, done = finished
    before = stamps(place)
    assert {name: result.folder for name, result in go(config, place).items()} == {
        name: result.folder for name, result in done.items()
    }
    assert stamps(place) == before
    same = dataclasses.replace(config, keep_clips=0, save_every=2, checkpoint_every=1, allow_cpu=False)
    assert steps.evaluate.folder(same, place) == done["evaluate"].folder
    for first, changes in (
        ("preprocess", {"size": 64}),
        ("preprocess", {"form": "mp4"}),
        ("split", {"group": 1}),
        ("split", {"drop_shared": True}),
        ("train", {"epochs": 2}),
        ("train", {"learning_rate": 1e-3}),
        ("train", {"variants": ("unet",)}),
        ("evaluate", {"relative": False}),
        ("evaluate", {"test_clips": 1}),
    ):
        other, index = dataclasses.replace(config, **changes), [step.name for step in steps.STEPS].index(first)
        moved = [step.folder(other, place) != done[step.name].folder for step in steps.STEPS]
        assert moved == [number >= index for number in range(5)], changes


def test_without_a_gpu_own_data_ask_for_one(finished, monkeypatch, tmp_path):
    config, place, _ = finished
    monkeypatch.setattr(runtime, "devices", lambda: [{"kind": "CPU"}])
    own = steps.build_dataset(config, place).folder / "clips"
    config = dataclasses.replace(config, source="local", local_folder=str(own), allow_cpu=False)
    go(config, tmp_path, "split")
    with pytest.raises(RuntimeError, match="expects a GPU"):
        steps.train(config, tmp_path)


# --- own clips ---


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A user's folder: all forms, names like numbers, and what goes wrong."""
    root = tmp_path_factory.mktemp("own")
    for side, names in (
        ("train", ("00012", "7.mp4", "8.gif", "9.png", "9.gif", "twin.mp4")),
        ("test", ("00012", "1e5.mp4")),
    ):
        (root / side).mkdir()
        for seed, name in enumerate(names):
            write_clip(root / side / name, puppets(5, (40, 48), seed))
    Image.fromarray(puppets(1, (40, 40))[0]).save(root / "train" / "single.jpg")
    (root / "train" / "broken.mp4").write_bytes(b"\1\2\xfe no video")
    (root / "train" / "notes.txt").write_text("not a clip")
    return root


def write_clip(path, frames):
    if not path.suffix:
        local.write_folder(path, frames)
    elif path.suffix == ".gif":
        first, *rest = map(Image.fromarray, frames)
        first.save(path, save_all=True, append_images=rest, duration=40)
    elif path.suffix == ".png":
        Image.fromarray(np.concatenate([frame[:, :40] for frame in frames], axis=1)).save(path)
    else:
        video.write_video(path, frames, 25)


def test_own_clips_in_all_four_forms(own, tmp_path):
    config = dataclasses.replace(CONFIG, source="local", local_folder=str(own), by_person=False)
    done = go(config, tmp_path, "split")
    listed = done["build_dataset"].table("clips").set_index(["partition", "clip"])
    assert len(listed) == 10 and done["build_dataset"]["left_out"] == 3  # two that fail, and notes.txt
    bad = listed.loc[listed["error"] != "", "error"].droplevel(0)
    assert set(bad.index) == {"broken.mp4", "single.jpg"}
    assert "broken.mp4" in bad["broken.mp4"] and "a single frame; expected a clip of 2 or more" in bad["single.jpg"]
    assert listed["form"].value_counts().to_dict() == {"video": 4, "folder": 2, "gif": 2, "strip": 2}
    made = done["preprocess"].table("clips")
    assert done["preprocess"].found == {"root": "clips", "clips": 7, "failed": 1, "frames": 35}
    (twin,) = made[made["error"] != ""].to_dict("records")
    assert twin["clip"] == "9.png" and "another clip has this name" in twin["error"]  # 9.gif comes first
    final = done["split"].table("clips")
    assert {"00012", "7.mp4", "1e5.mp4"} <= set(final["clip"]) and set(final["person"]) >= {"00012", "7", "1e5"}
    assert done["split"]["shared_persons"] == 1
    for path in final["path"]:
        assert data.read_clip(done["preprocess"].folder / "clips" / path).shape == (5, 32, 32, 3)
    only = go(dataclasses.replace(config, drop_shared=True), tmp_path, "split")["split"]
    assert only["shared_persons"] == 0 and sum(only["groups"]) == 4 and len(only.table("clips")) == 6


def test_clips_as_videos_keep_their_rate(own, tmp_path):
    config = dataclasses.replace(CONFIG, source="local", local_folder=str(own), form="mp4")
    made = go(config, tmp_path, "preprocess")["preprocess"]
    path = made.folder / "clips" / "train" / "7.mp4"
    assert set(made.table("clips")["form"]) == {"video"} and video.header_info(path)["fps"] == 25
    assert path.is_file() and data.read_clip(path).shape == (5, 32, 32, 3)


def test_a_killed_preprocess_goes_on(own, tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, source="local", local_folder=str(own), by_person=False)
    steps.build_dataset(config, tmp_path)
    genuine, written = local.write_folder, []
    parallel = local.parallel.parallel
    monkeypatch.setattr(local.parallel, "parallel", lambda *a, **o: parallel(*a, **{**o, "jobs": 1}))

    def fragile(path, frames):
        if len(written) == 3:
            next(iter(frames))
            written.append(path.name)
            raise KeyboardInterrupt
        written.append(path.name)
        return genuine(path, frames)

    monkeypatch.setattr(local, "write_folder", fragile)
    with pytest.raises(KeyboardInterrupt):
        steps.preprocess(config, tmp_path)
    assert not steps.preprocess.done(config, tmp_path)
    (partial,) = tmp_path.glob("*/*preprocess*.partial")
    kept = stamps(partial / "clips")
    assert len(kept) == 3 * 5
    result = steps.preprocess(config, tmp_path)
    assert (
        result["clips"] == 7 and len(written) == 8 and sorted(set(written)) != sorted(written)
    )  # 00012 is on both sides
    assert {path.relative_to(partial): stamp for path, stamp in kept.items()}.items() <= {
        path.relative_to(result.folder): stamp for path, stamp in stamps(result.folder).items()
    }.items()


def test_a_changed_folder_is_a_new_data_set(own, tmp_path):
    config = dataclasses.replace(CONFIG, source="local", local_folder=str(tmp_path / "clips"))
    for seed, name in enumerate(("a.mp4", "b.mp4", "c.mp4")):
        write_clip(tmp_path / "clips" / name, puppets(3, seed=seed))
    before = go(config, tmp_path / "work", "split")
    assert before["build_dataset"]["clips"] == {"train": 2, "test": 1}  # split by itself
    write_clip(tmp_path / "clips" / "d.mp4", puppets(3, seed=5))
    assert not steps.build_dataset.done(config, tmp_path / "work")
    assert sum(steps.build_dataset(config, tmp_path / "work")["clips"].values()) == 4


# --- VoxCeleb ---


@pytest.fixture(scope="module")
def whole_videos(tmp_path_factory):
    """Whole videos as a user has them, one of the table's gone, another broken; and the table."""
    folder = tmp_path_factory.mktemp("originals")
    table = dataset.make_dataset(folder / "mini", people=(2, 1), clips=2, size=32, jobs=1)
    originals.make_originals(folder / "videos" / "deep", table, jobs=1)
    first = table[table["partition"] == "train"]["video"].iloc[-1]
    (folder / "videos" / "deep" / f"{first}.mp4").write_bytes(b"cut off in the download")
    return folder, table, first


@pytest.fixture
def vox(whole_videos, monkeypatch):
    """The config; the table comes from the drawn data instead of the network."""
    folder, table, broken = whole_videos

    def fetch(manifest, target, *, names):
        assert manifest.name == "voxceleb" and names == [voxceleb.METADATA]
        target.mkdir(parents=True, exist_ok=True)
        (target / voxceleb.METADATA).write_bytes((folder / "mini" / "vox-metadata.csv").read_bytes())
        return {voxceleb.METADATA: target / voxceleb.METADATA}

    monkeypatch.setattr(manifests, "fetch_all", fetch)
    config = dataclasses.replace(CONFIG, source="voxceleb", local_folder=str(folder / "videos"), n_groups=1)
    return config, table, broken


def test_voxceleb_from_own_copies(vox, whole_videos, tmp_path):
    config, table, broken = vox
    done = go(config, tmp_path, "split")
    listed = done["build_dataset"].table("clips")
    (gone,) = listed[listed["error"] != ""].to_dict("records")
    assert gone["clip"] in dataset.BROKEN and gone["error"] == "gone: no file of this video"
    assert sorted(listed["clip"]) == sorted(
        [*(name.rsplit(".", 1)[0] + ".mp4" for name in table["clip"]), gone["clip"]]
    )
    made = done["preprocess"].table("clips").set_index("clip")
    failed = made[made["error"] != ""]
    assert set(failed["video"]) == {broken} and failed["error"].str.contains("ValueError").all()
    assert done["preprocess"]["clips"] == len(table) - len(failed) and done["preprocess"]["failed"] == len(failed)
    assert done["split"]["groups"] == [2] and done["split"]["test"] == 2
    puppet = table.assign(clip=table["clip"].str.rsplit(".", n=1).str[0] + ".mp4").set_index("clip")
    for clip, row in made[made["error"] == ""].iterrows():
        cut = data.read_clip(done["preprocess"].folder / "clips" / row["path"])
        drawn = data.read_clip(whole_videos[0] / "mini" / puppet.loc[clip, "path"])
        assert cut.shape == drawn.shape == (row["frames"], 32, 32, 3)
        assert np.abs(cut.astype(float) - drawn).mean() < 20  # the box is the stage: the clip itself is drawn there
        assert np.abs(cut.astype(float) - drawn[::-1]).mean() > np.abs(cut.astype(float) - drawn).mean()


def test_a_killed_crop_goes_on_with_the_next_clip(vox, tmp_path, monkeypatch):
    config, _, _ = vox
    steps.build_dataset(config, tmp_path)
    parallel, genuine, cut = voxceleb.parallel.parallel, voxceleb._cut, []
    monkeypatch.setattr(voxceleb.parallel, "parallel", lambda *a, **o: parallel(*a, **{**o, "jobs": 1}))

    def fragile(path, rows, folder, size):
        cut.append(path.stem)
        if len(cut) == 2:
            raise KeyboardInterrupt
        return genuine(path, rows, folder, size)

    monkeypatch.setattr(voxceleb, "_cut", fragile)
    with pytest.raises(KeyboardInterrupt):
        steps.preprocess(config, tmp_path)
    result = steps.preprocess(config, tmp_path)
    assert cut.count(cut[0]) == 1 and cut[1] == cut[2] and result["clips"] == 4
    assert not list((result.folder / "clips").glob(".*"))


# --- a published checkpoint ---

TORCH = {"kernel": "weight", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean"}
TORCH |= {"moving_variance": "running_var", "bias": "bias"}


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def numbers(values):
    return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"


def torch_file(path, state):
    """A file as torch wrote them before 1.6, its pickles put together by hand: {name: {key: float32 array}}."""
    storages, entries = [], b""
    for name, tensors in state.items():
        entries += text(name) + b"}("
        for key, array in tensors.items():
            strides = [stride // 4 for stride in array.strides]
            entries += (
                text(key) + b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\nFloatStorage\n"
            )
            entries += text(str(len(storages))) + text("cpu") + b"J" + struct.pack("<i", array.size) + b"NtQ" + b"K\x00"
            entries += numbers(array.shape) + numbers(strides) + b"\x89ccollections\nOrderedDict\n)RtR"
            storages.append(array)
        entries += b"u"
    head = [b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", b"\x80\x02M\xe9\x03."]
    head += [b"\x80\x02}(" + text("little_endian") + b"\x88" + text("protocol_version") + b"M\xe9\x03u."]
    keys = b"\x80\x02](" + b"".join(text(str(number)) for number in range(len(storages))) + b"e."
    tail = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in storages)
    path.write_bytes(b"".join(head) + b"\x80\x02}(" + entries + b"u." + keys + tail)


def weights_like(network, seed):
    """Weights under torch's names and in torch's order of axes, and the same as Keras has them."""
    rng, torch, keras_own = np.random.default_rng(seed), {}, []
    for variable in network.weights:
        array = np.abs(rng.normal(size=variable.shape)).astype("<f4") * 0.1 + np.float32("gamma" in variable.path)
        layer, leaf = variable.path.rsplit("/", 1)
        kept = np.ascontiguousarray(array.transpose(3, 2, 0, 1)) if array.ndim == 4 else array
        torch[f"{layer.rsplit('/', 1)[-1]}.{TORCH[leaf]}"] = kept
        keras_own.append(array)
    return torch, keras_own


def test_a_published_checkpoint_is_where_training_starts(tmp_path):
    path = tmp_path / "vox-adv-cpk.pth.tar"
    config = dataclasses.replace(
        CONFIG,
        network="vox256",
        variants=("fomm",),
        checkpoint=str(path),
        generator_gan=1.0,
        learning_rate=1e-5,
        repeats=1,
    )
    built = (
        runs.new_detector(config, "fomm"),
        runs.new_generator(config),
        runs.new_discriminator(config),
    )
    given = [weights_like(network, seed) for seed, network in enumerate(built)]
    torch_file(
        path, dict(zip(("kp_detector", "generator", "discriminator"), [torch for torch, _ in given], strict=True))
    )
    place = tmp_path / "work"
    done = go(config, place, "train")["train"]
    fresh, trained = runs.load_networks(config, "fomm"), runs.load_networks(config, "fomm", done.folder / "fomm")
    for (_, expected), start, end in zip(given[:2], fresh, trained, strict=True):
        for one, two, three in zip(expected, start.get_weights(), end.get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)
            assert two.ndim != 4 or np.abs(three - two).max() < 1e-4  # a step of 1e-5
        kernels = [np.abs(b - a).max() for a, b in zip(expected, end.get_weights(), strict=True) if a.ndim == 4]
        assert max(kernels) > 0
    runs.save_networks(tmp_path / "converted", *fresh)
    converted = runs.load_networks(dataclasses.replace(config, checkpoint=None), "fomm", tmp_path / "converted")
    for (_, expected), network in zip(given, converted, strict=False):
        assert all((one == two).all() for one, two in zip(expected, network.get_weights(), strict=True))
    judge = runs.build_network(config, "fomm", steps_per_epoch=1).discriminator
    assert all((one == two).all() for one, two in zip(given[2][1], judge.get_weights(), strict=True))
    torch_file(path, {"kp_detector": given[0][0], "generator": given[0][0]})
    with pytest.raises(ValueError, match=r"generator: no (tensor|variable) for"):
        runs.load_networks(config, "fomm")


# --- what cannot be ---


def test_pairs_of_a_file(finished, tmp_path):
    config, place, _ = finished
    names = steps.clips_of(config, place, "test")["clip"].tolist()
    rows = [(names[0], names[0]), ("unknown", names[0]), (names[1], names[0]), (names[1], names[1])]
    path = tmp_path / "pairs.csv"
    pd.DataFrame(rows, columns=["source", "driving"]).assign(distance=1.5, frame=0).to_csv(path, index=False)
    config = dataclasses.replace(config, pairs_file=str(path), pairs=2)
    assert steps.split(config, place).table("pairs").to_numpy().tolist() == [list(rows[0]), list(rows[2])]
    pd.DataFrame([("x", "y")], columns=["source", "driving"]).to_csv(tmp_path / "none.csv", index=False)
    with pytest.raises(ValueError, match=r"none.csv: not one pair .*; expected clips of the test, such as"):
        steps.split(dataclasses.replace(config, pairs_file=str(tmp_path / "none.csv")), place)
    (tmp_path / "bad.csv").write_text("source,target\na,b\n")
    with pytest.raises(ValueError, match=r"bad.csv: no column driving; it has: source, target"):
        steps.split(dataclasses.replace(config, pairs_file=str(tmp_path / "bad.csv")), place)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"n_groups": None, "group_size": 2, "by_person": False, "group": 2}, "group: received 2; allowed: 0 to 1"),
        ({"n_groups": 5, "by_person": False}, "n_groups: received 5; allowed: 1 to 4"),
        ({"n_groups": 5}, "n_groups: received 5; allowed: 1 to 4"),
    ],
)
def test_groups_that_cannot_be(finished, changes, words):
    config, place, _ = finished
    with pytest.raises(ValueError, match=words):
        steps.split(dataclasses.replace(config, **changes), place)


def test_nothing_there_and_nothing_usable(tmp_path):
    config = dataclasses.replace(CONFIG, source="local", local_folder=str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match=r"local_folder: no folder .*gone; expected one with train/ and test/"):
        steps.build_dataset(config, tmp_path)
    (tmp_path / "clips").mkdir()
    config = dataclasses.replace(config, local_folder=str(tmp_path / "clips"))
    with pytest.raises(FileNotFoundError, match="no clip in clips: expected folders of pictures, or films"):
        steps.build_dataset(config, tmp_path)
    (tmp_path / "clips" / "a.mp4").write_bytes(b"\1\2\xfe no video")
    with pytest.raises(ValueError, match=r"not one of 1 clips can be used; the first says: .*a.mp4"):
        steps.build_dataset(config, tmp_path)


def test_no_test_clips_and_persons_who_are_all_shared(tmp_path):
    for side in ("train", "test"):
        write_clip(tmp_path / "clips" / side / "a#one.mp4", puppets(3))
    config = dataclasses.replace(
        CONFIG, source="local", local_folder=str(tmp_path / "clips"), drop_shared=True, n_groups=1
    )
    with pytest.raises(ValueError, match="0 clips to train on and 1 for the test; expected at least one of each"):
        go(config, tmp_path / "work", "split")
