"""The five steps end to end on a very small drawn data set, with broken clips, full disks, and kills at random moments."""

import contextlib
import dataclasses
import errno
import functools
import random
import shutil
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pandas as pd
import pytest

from helpers import parallel, pictures, runtime, video, workspace

runtime.quiet_start()

import bitwise
import keras
from temporal_coherence import kill

from helpers.temporal_coherence import cutting, evaluation, metrics, runs, steps
from helpers.temporal_coherence.batches import see
from helpers.temporal_coherence.config import TemporalCoherenceConfig
from helpers.temporal_coherence.mini import dataset

SHARED = runtime.repo_root().parent / "shared" / "data" / "ucf101"
SMALL = {"classes": ("Archery", "Rowing"), "groups": (1, 2, 8, 9, 10, 11), "frames": (14, 26), "size": (60, 80)}
STEP, GAP, NEGATIVE_EVERY = 3, 2, 4
MINI = TemporalCoherenceConfig(
    source="mini", classes=(), step=STEP, gap=GAP, negative_every=NEGATIVE_EVERY, size=35, validation_groups=1,
    variant="tiny", embedding_dim=8, loss="contrastive", compare=("nt_xent",), optimizer="adam",
    schedule="constant", batch_size=16, epochs=4, allow_cpu=True, cluster_seeds=1, tsne_frames=50, label_shares=(1.0,),
    finetune_steps=4,
)  # fmt: skip
change = functools.partial(dataclasses.replace, MINI)


@pytest.fixture(scope="module", autouse=True)
def small_mini():
    """Fewer and smaller clips than mini draws."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "make_dataset", functools.partial(dataset.make_dataset, **SMALL))
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A workspace where all five steps are done."""
    root = tmp_path_factory.mktemp("workspace")
    for step in steps.STEPS:
        step(MINI, root)
    return root


@pytest.fixture
def own(place, tmp_path):
    """A copy of that workspace, to be changed."""
    return shutil.copytree(place, tmp_path / "own")


@pytest.fixture
def local(place, tmp_path):
    """The drawn clips as a user's own folder, and its config."""
    folder = tmp_path / "mine"
    shutil.copytree(steps.build_dataset.load(MINI, place).folder / steps.CLIPS, folder)
    return folder, change(source="local", local_folder=str(folder), split_by="group")


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


# --- what the steps leave ---


def test_folders_have_the_names_of_the_steps(place):
    names = sorted(path.name for path in (place / "temporal_coherence").iterdir() if path.is_dir())
    expected = ["0_build_dataset", "1_preprocess", "2_split", "3_train", "4_evaluate"]
    assert [name.rsplit("-", 1)[0] for name in names] == expected and all(
        len(name.rsplit("-", 1)[1]) == 8 for name in names
    )


@pytest.mark.parametrize(
    "step, table, columns",
    [
        ("build_dataset", "clips", "class label group clip video"),
        ("preprocess", "clips", "class label group clip video decoded_frames header_frames pairs error note"),
        ("preprocess", "pairs", " ".join(cutting.PAIR_COLUMNS)),
        ("split", "clips", "class label group clip video decoded_frames header_frames pairs error note split"),
        ("split", "pairs", " ".join(cutting.PAIR_COLUMNS)),
        ("evaluate", "plane", "class label group video path_query cluster x y"),
        ("evaluate", "finetuning", "start labelled_clips share clip_accuracy training_loss"),
    ],
)
def test_columns_of_the_tables(place, step, table, columns):
    assert list(kill.step_called(step).load(MINI, place).table(table).columns) == columns.split()


def test_counts_follow_from_the_clips(place):
    build, cut, split = (kill.step_called(name).load(MINI, place) for name in ("build_dataset", "preprocess", "split"))
    clips = cut.table("clips")
    assert build["clips"] == len(clips) == cut["clips"] == 2 * 6 * 2 and build["groups"] == 12
    assert build["classes"] == ["Archery", "Rowing"] and cut["failed"] == cut["lying_headers"] == 0
    queries = negatives = 0
    for row in clips.itertuples():
        frames = video.count_frames(build.folder / steps.CLIPS / row.video)
        mine = len(range(0, max(0, frames - GAP), STEP))  # frames 0, STEP, ... whose partner decodes too
        assert (row.decoded_frames, row.header_frames, row.pairs) == (frames, frames, mine)
        queries, negatives = queries + mine, negatives + len(range(0, mine, NEGATIVE_EVERY))
    assert (cut["queries"], cut["negatives"]) == (queries, negatives) == (len(cut.table("pairs")), negatives)
    pictures = list((cut.folder / "frames").rglob("*.jpg"))
    assert len(pictures) == 2 * queries - negatives
    assert cut["megabytes"] == round(sum(path.stat().st_size for path in pictures) / 1e6, 2) > 0
    assert split["clips"] == {"train": 12, "validation": 4, "test": 8} and sum(split["pairs"].values()) == queries


def test_the_paths_of_the_pairs_lead_to_the_frames(place):
    cut = steps.preprocess.load(MINI, place)
    pairs = cut.table("pairs")
    named = {*pairs["path_query"], *pairs["path_next"]} - {""}
    assert named == {path.relative_to(cut.folder).as_posix() for path in cut.folder.rglob("*.jpg")}
    assert pictures.read_picture(cut.folder / pairs["path_query"][0]).shape == (35, 35, 3)


def test_training_leaves_a_log_whose_loss_falls_and_weights(place):
    result = steps.train.load(MINI, place)
    runs = result.table("runs")
    assert result["runs"] == runs["run"].tolist() == ["contrastive", "nt_xent"]
    pairs = steps.split.load(MINI, place).table("pairs")
    batches = (pairs["split"] == "train").sum() // 16
    for run, pairs_seen in zip(runs["run"], runs["pairs_seen"], strict=True):
        log = pd.read_csv(result.folder / run / "log.csv")
        assert log["step"].tolist() == [batches * epoch for epoch in (1, 2, 3, 4)]
        assert log["loss"].iloc[-1] < log["loss"].iloc[0]
        assert {"pair_auc", "positive_distance", "negative_distance", "active_hinge", "spread", "dead", "rank"} <= {
            *log
        }
        assert pairs_seen == 4 * batches * (16 if run == "contrastive" else 12)  # nt_xent: one pair a training clip
        assert (result.folder / run / "trunk.weights.h5").is_file()


def test_scores_have_a_row_per_baseline_and_run(place):
    result = steps.evaluate.load(MINI, place)
    scores = result.table("scores").set_index("features")
    assert list(scores.index) == ["chance", "raw pixels", "random start", "contrastive", "nt_xent"]
    test = steps.split.load(MINI, place).table("pairs").query("split == 'test'")
    assert result["frames"] == len(test) and result["k"] == 2
    assert scores["conditional_entropy"].between(0, result["class_entropy"] + 1e-9).all()
    assert (
        scores[["nmi", "homogeneity", "recall@1", "linear_probe", "pair_auc"]]
        .apply(lambda s: s.between(0, 1))
        .all(axis=None)
    )
    assert result["scores"]["nt_xent"]["nmi"] == pytest.approx(scores["nmi"]["nt_xent"])
    tuned = result.table("finetuning")
    assert (
        tuned["start"].tolist() == ["random start", "contrastive", "nt_xent"] and (tuned["labelled_clips"] == 12).all()
    )
    assert len(result.table("plane")) == min(50, len(test))


def test_four_films_in_two_rooms_run_through_all_steps(place, tmp_path):
    """What notebook 00 asks the learner to film: nothing is left to validate on, and the room that is named is the test."""
    drawn = steps.build_dataset.load(MINI, place).folder / steps.CLIPS
    for action, label in (("Waving", "Archery"), ("Sweeping", "Rowing")):
        for room, group in (("kitchen", 1), ("hall", 2)):
            (tmp_path / "films" / action).mkdir(parents=True, exist_ok=True)
            name = f"v_{label}_g{group:02d}_c01.avi"
            shutil.copyfile(drawn / label / name, tmp_path / "films" / action / f"{room}.avi")
    config = change(
        source="local", local_folder=str(tmp_path / "films"), split_by="room", test_room="hall", validation_groups=0,
        inputs="differences", loss="nt_xent", positives="clip", compare=("labels",), epochs=2, label_shares=(),
    )  # fmt: skip
    for step in steps.STEPS:
        result = step(config, tmp_path / "place")
    assert steps.split.load(config, tmp_path / "place")["clips"] == {"train": 2, "validation": 0, "test": 2}
    scores = result.table("scores").set_index("features")
    assert list(scores.index) == ["chance", "raw pixels", "random start", "nt_xent", "labels"]
    assert scores["recall@1"].isin([0, 0.5, 1]).all()


def small_trunk(variant, embedding_dim, size):
    """A learner's own: the mean colour, mixed by one layer."""
    inputs = keras.Input((size, size, 3))
    return keras.Model(inputs, keras.layers.Dense(embedding_dim)(keras.layers.GlobalAveragePooling2D()(inputs)))


def test_a_trunk_of_ones_own_is_trained_and_scored_beside_the_course_s(own):
    config = change(loss="quadruplet", compare=(), epochs=1, label_shares=())
    ours = [step(config, own) for step in steps.STEPS[3:]]
    with workspace.own(runs, build_trunk=small_trunk):
        theirs = [step(config, own) for step in steps.STEPS[3:]]
        weights = runs.load_trunk(config, theirs[0], "quadruplet").get_weights()
    assert [w.shape for w in weights] == [(3, 8), (8,)]
    assert all(a.folder != b.folder for a, b in zip(ours, theirs, strict=True))
    scores = [result.table("scores").set_index("features").loc["random start"] for result in (ours[1], theirs[1])]
    assert scores[0]["pair_auc"] != scores[1]["pair_auc"]


def siamese_features(place, run: str, paths: list[str]) -> np.ndarray:
    """Embeddings by the whole siamese network with the weights that its training ended with; "" for the first weights."""
    trained, (siamese, _) = steps.train.load(MINI, place), runs.build_network(MINI, "contrastive", total_steps=1)
    if run:
        siamese.load_weights(trained.folder / run / "final.weights.h5")
    frames = steps.frames_of(MINI, place, steps.split.load(MINI, place).table("pairs")).stack(paths)
    return np.asarray(siamese(np.stack([frames, frames], axis=1)))[:, 0]


@pytest.mark.parametrize("name, run", [("random start", ""), ("contrastive", "contrastive"), ("nt_xent", "nt_xent")])
def test_scores_are_of_the_normalised_embeddings_of_that_run(place, name, run):
    pairs = steps.split.load(MINI, place).table("pairs")
    test = pairs[pairs["split"] == "test"].reset_index(drop=True)
    features = siamese_features(place, run, test["path_query"].tolist())
    scores = steps.evaluate.load(MINI, place).table("scores").set_index("features").loc[name]
    expected = evaluation.query_pair_auc(test, features, seed=MINI.seed)
    assert scores["pair_auc"] == pytest.approx(expected, abs=1e-3)
    clusters = metrics.cluster_scores(test["label"], metrics.kmeans(features, 2))
    assert scores["conditional_entropy"] == pytest.approx(clusters["conditional_entropy"], abs=0.02)


@pytest.mark.parametrize("inputs", ["frames", "differences"])
def test_published_trunks_are_scored_on_test_clips_beside_raw_pixels(place, inputs):
    config = change(inputs=inputs, clusters=7, cluster_seeds=3)
    done = {step.name: step.load(MINI, place) for step in steps.STEPS}
    pairs = see(inputs, done["split"].table("pairs"))
    frames = steps.frames_of(MINI, place, pairs)
    train, test = (pairs[pairs["split"] == side].reset_index(drop=True) for side in ("train", "test"))
    trunk = runs.load_trunk(MINI, done["train"], "contrastive")

    def by_trunk(rows):
        outputs = np.asarray(trunk.predict_on_batch(frames.stack(rows["path_query"].tolist())))
        return outputs / np.linalg.norm(outputs, axis=1, keepdims=True)

    def by_pixels(rows):
        small = [cv2.resize(frames.read(path), (16, 16), interpolation=cv2.INTER_AREA) for path in rows["path_query"]]
        return np.stack(small).reshape(len(rows), -1) / np.float32(255)

    for network, features in ((None, by_pixels), (trunk, by_trunk)):
        groups, score = evaluation.on_test(config, done, network)
        assert groups.tolist() == [f"{name}{group}" for name, group in zip(test["class"], test["group"], strict=True)]
        for left_out in ("Archery1", "Rowing2"):
            asked = test[groups != left_out]
            clusters = [metrics.kmeans(features(asked), 7, seed=seed) for seed in range(3)]
            clips = (*metrics.clip_features(features(train), train), *metrics.clip_features(features(asked), asked))
            assert score(groups != left_out) == pytest.approx({
                "linear_probe": metrics.linear_probe(*clips),
                "recall@1": metrics.retrieval_recall(*clips)["recall@1"],
                "share_of_entropy": np.mean([
                    metrics.cluster_scores(asked["label"], found)["share_of_entropy"] for found in clusters
                ]),
            }, abs=1e-6)  # fmt: skip


@pytest.mark.parametrize("run", ["", "nt_xent"])
def test_fine_tuning_starts_from_the_weights_of_its_run(place, tmp_path, monkeypatch, run):
    class Stop(Exception):
        pass

    def stop(model, train_data, *, epochs, steps_per_epoch, **options):
        assert epochs * steps_per_epoch == MINI.finetune_steps
        assert float(model.optimizer.learning_rate) == pytest.approx(1e-3) and model.output_shape == (None, 2)
        started.append(np.asarray(keras.Model(model.input, model.layers[-2].output)(x)))
        raise Stop

    pairs, trained, started = steps.split.load(MINI, place).table("pairs"), steps.train.load(MINI, place), []
    frames = steps.frames_of(MINI, place, pairs)
    paths = pairs["path_query"].iloc[:5].tolist()
    x = frames.stack(paths)
    monkeypatch.setattr("helpers.training.fit", stop)
    with pytest.raises(Stop):
        evaluation.finetune(run or "random start", 1.0, MINI, pairs, frames, trained if run else None, tmp_path)
    unit = started[0] / np.linalg.norm(started[0], axis=1, keepdims=True)
    np.testing.assert_allclose(unit, siamese_features(place, run, paths), atol=1e-4)


def test_calling_again_touches_nothing(place):
    before = stamps(place)
    for step in steps.STEPS:
        step(MINI, place)
    assert {path: stamp for path, stamp in stamps(place).items() if path.suffix != ".lock"} == {
        path: stamp for path, stamp in before.items() if path.suffix != ".lock"
    }


@pytest.mark.parametrize(
    "changes, kept",
    [
        ({"epochs": 5}, 3), ({"loss": "linear"}, 3), ({"margin": 2.0}, 3), ({"temperature": 0.5}, 3), ({"seed": 1}, 2),
        ({"split_by": "group"}, 2),
        ({"size": 36}, 1), ({"quality": 90}, 1), ({"classes": ("Archery",)}, 0), ({"more_groups": 1}, 0), ({"cluster_seeds": 2}, 4),
        ({"checkpoint_every": 2}, 5), ({"save_every": 2}, 5), ({"allow_cpu": False}, 5), ({"sheet": "a log"}, 5),
    ],
)  # fmt: skip
def test_a_change_redoes_what_depends_on_it_only(place, changes, kept):
    assert [step.done(change(**changes), place) for step in steps.STEPS] == [True] * kept + [False] * (5 - kept)


# --- splits ---


@pytest.mark.parametrize("by", ["official", "group", "clip"])
def test_only_a_split_by_clips_leaks_and_says_so(own, by):
    result = steps.split(change(split_by=by, test_share=0.5), own)
    sides = result.table("clips").groupby(["class", "group"])["split"].nunique()
    assert len(result["leaking_groups"]) == (sides > 1).sum()
    assert bool(result["leaking_groups"]) == (by == "clip") == ("scores measure memory" in result["warning"])
    assert set(result.table("clips")["split"]) == {"train", "validation", "test"}
    if by == "official":
        assert set(result.table("clips").query("split == 'test'")["group"]) == {1, 2}


def test_more_groups_are_for_training_and_leave_the_other_clips_as_they_are(place, own):
    more = change(more_groups=3)
    result = workspace.ensure(steps.STEPS, "split", more, own)
    usual, clips = (one.table("clips").set_index("video") for one in (steps.split.load(MINI, place), result["split"]))
    pd.testing.assert_frame_equal(clips.loc[usual.index], usual)
    rest = clips.drop(usual.index)
    assert set(rest["split"]) == {"train"} and set(rest["group"]) == {20, 21, 22} and len(rest) == 2 * 3 * 2
    name = usual.index[0]
    files = [steps.build_dataset.load(one, own).source_root / name for one in (MINI, more)]
    assert files[0] != files[1] and files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("other", [{"split_by": "group"}, {"source": "ucf101"}])
def test_more_groups_are_drawn_for_the_official_lists_of_mini_only(other):
    with pytest.raises(ValueError, match=r"more_groups: received 3 with source: .*; allowed: 0, or source: mini"):
        change(more_groups=3, **other)


# --- bad clips ---


def test_bad_clips_among_good_ones_are_recorded(local, tmp_path):
    folder, config = local
    (folder / "Rowing" / "v_Rowing_g12_c01.avi").write_bytes(b"\1\2\xfe no video")
    (folder / "Rowing" / "v_Rowing_g12_c02.avi").touch()
    good = next((folder / "Archery").glob("*.avi"))
    dataset.truncate_clip(good, 0.02, target=folder / "Archery" / "v_Archery_g12_c01.avi")
    dataset.truncate_clip(good, 0.7, target=folder / "Archery" / "v_Archery_g12_c02.avi")
    video.write_video(folder / "Archery" / "v_Archery_g12_c03.avi", video.read_frames(good, step=1000))  # one frame
    shutil.copy(good, folder / "Archery" / "holiday.avi")
    shutil.copy(good, folder / "Archery" / "holiday.mp4")  # the same name but for the suffix
    left_out = steps.build_dataset(config, tmp_path).table("left_out")
    assert (
        left_out["file"].tolist() == ["Rowing/v_Rowing_g12_c02.avi"] and "an empty file" in left_out["reason"].iloc[0]
    )
    result = steps.preprocess(config, tmp_path)
    clips = result.table("clips").set_index("video")
    errors = clips.loc[clips["error"] != "", "error"]
    assert sorted(errors.index) == [
        "Archery/v_Archery_g12_c01.avi",
        "Archery/v_Archery_g12_c03.avi",
        "Rowing/v_Rowing_g12_c01.avi",
    ]
    assert (
        "too short" in errors["Archery/v_Archery_g12_c03.avi"] and "no video" in errors["Rowing/v_Rowing_g12_c01.avi"]
    )
    assert (result["clips"], result["failed"], result["lying_headers"]) == (24 + 3, 3, 1)
    cut = clips.loc["Archery/v_Archery_g12_c02.avi"]
    assert 0 < cut["decoded_frames"] < cut["header_frames"] == clips.loc["Archery/holiday.avi", "decoded_frames"]
    pairs = result.table("pairs")
    assert set(pairs["video"]) == set(clips.index[clips["error"] == ""]) and pairs["path_query"].is_unique
    assert set(steps.split(config, tmp_path).table("clips")["video"]) == set(pairs["video"])


def test_not_one_good_clip_is_an_error(tmp_path):
    (tmp_path / "mine" / "A").mkdir(parents=True)
    for number in (1, 2):
        (tmp_path / "mine" / "A" / f"{number}.avi").write_bytes(b"\1\2\xfe no video")
    config = change(source="local", local_folder=str(tmp_path / "mine"), split_by="clip")
    steps.build_dataset(config, tmp_path)
    with pytest.raises(ValueError, match=r"not one of 2 clips can be used; the first says: ValueError: not one frame"):
        steps.preprocess(config, tmp_path)
    assert not steps.preprocess.done(config, tmp_path)


def test_a_full_disk_stops_the_step_and_keeps_what_is_cut(own, monkeypatch):
    config, write, left = change(quality=80), cutting._write_frame, [40]

    def write_or_fail(path, frame, quality):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, frame, quality)

    with (
        monkeypatch.context() as patch,
        pytest.raises(OSError, match=r"could not be written, call again.*the disk is full"),
    ):
        patch.setattr(cutting, "_write_frame", write_or_fail)
        patch.setattr(parallel, "parallel", functools.partial(parallel.parallel, jobs=1))
        steps.preprocess(config, own)
    partial = kill.step_called("preprocess").folder(config, own)
    partial = partial.with_name(partial.name + ".partial")
    done = {
        path.relative_to(partial): stamp for path, stamp in stamps(partial / "frames").items() if path.suffix == ".json"
    }
    assert 1 <= len(done) < 24
    result = steps.preprocess(config, own)
    assert result["failed"] == 0 and result["clips"] == 24
    assert all((result.folder / path).stat().st_mtime_ns == stamp for path, stamp in done.items())
    assert not [path for path in result.folder.rglob("*") if path.name.startswith(".") or path.name.endswith(".tmp")]


def test_a_changed_local_folder_is_another_data_set(local, tmp_path):
    folder, config = local
    first = steps.build_dataset(config, tmp_path)
    assert steps.build_dataset(config, tmp_path).folder == first.folder
    shutil.copy(folder / "Rowing" / "v_Rowing_g01_c01.avi", folder / "Rowing" / "v_Rowing_g13_c01.avi")
    second = steps.build_dataset(config, tmp_path)
    assert second.folder != first.folder and (first["clips"], second["clips"]) == (24, 25)
    (folder / "Rowing" / "notes.txt").write_text("no clip")
    assert steps.build_dataset.folder(config, tmp_path) == second.folder
    with pytest.raises(FileNotFoundError, match="local_folder: no folder"):
        steps.build_dataset(dataclasses.replace(config, local_folder=str(tmp_path / "gone")), tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="real clips are not here")
def test_real_and_hard_clips(tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(SHARED / "UCF-101", folder, copy_function=shutil.copyfile)
    hard = sorted((SHARED / "hard").iterdir())
    for path in hard:
        shutil.copyfile(path, folder / "Diving" / path.name)
    classes = ("ApplyEyeMakeup", "BenchPress", "Diving")
    config = change(source="local", local_folder=str(folder), classes=classes, split_by="clip", step=10, gap=1)
    for step in steps.STEPS[:3]:
        result = step(config, tmp_path)
    clips = steps.preprocess.load(config, tmp_path).table("clips").set_index("video")
    assert len(clips) == 15 + len(hard) and {f"Diving/{path.name}" for path in hard} <= set(clips.index)
    assert (clips["error"].eq("") == clips["pairs"].gt(0)).all()
    genuine = clips[clips.index.str.contains("/v_")]
    assert len(genuine) == 15 and genuine["error"].eq("").all()
    cut = clips.loc["Diving/corrupted.mp4"]
    assert (cut["decoded_frames"], cut["header_frames"]) == (28, 50)
    assert min(result["clips"].values()) >= 3 and result["warning"]


# --- kills ---


def test_a_stopped_evaluation_goes_on_with_the_next_score(own, place, monkeypatch):
    score_one, finetune, scored = evaluation.score_one, evaluation.finetune, []
    folder = steps.evaluate.folder(MINI, own)
    shutil.rmtree(folder)

    def score_or_die(name, *arguments):
        if name == "random start" and "random start" not in scored:
            scored.append(name)
            raise KeyboardInterrupt
        scored.append(name)
        return score_one(name, *arguments)

    monkeypatch.setattr(evaluation, "score_one", score_or_die)
    monkeypatch.setattr(evaluation, "finetune", lambda *arguments: scored.append("tuned") or finetune(*arguments))
    with pytest.raises(KeyboardInterrupt):
        steps.evaluate(MINI, own)
    result = steps.evaluate(MINI, own)
    assert scored == ["chance", "raw pixels", "random start", "random start", "contrastive", "nt_xent"] + 3 * ["tuned"]
    for name in ("scores", "plane", "finetuning"):
        pd.testing.assert_frame_equal(result.table(name), steps.evaluate.load(MINI, place).table(name))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Clips, workspaces ready for each step, and what the steps leave when nobody kills them."""
    root = tmp_path_factory.mktemp("kill")
    small = dataset.make_dataset
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "make_dataset", small.func)
        kill.draw_clips(root / "clips")
    expected = {}
    for name, before in kill.BEFORE.items():
        kill.run(root / "clips", root / name, before)
        shutil.copytree(root / name, root / "straight", dirs_exist_ok=True)
        result = kill.run(root / "clips", root / "straight", name)
        expected[name] = (bitwise.contents(result), kill.progress(result.folder, name))
    return root, expected


def test_killed_steps_end_as_if_nothing_had_happened(undisturbed):
    root, expected = undisturbed
    generator = random.Random(2)
    moments = [
        (name, kill.random_moment(generator, expected[name][1], latest=0.5))
        for name in ("preprocess", "train", "train")
    ]

    def die(number, name, moment):
        place = shutil.copytree(root / name, root / f"killed-{number}")
        process = kill.start(root / "clips", place, name)
        return place, process, kill.kill(process, root / "clips", place, name, **moment)

    with ThreadPoolExecutor(2) as pool, contextlib.ExitStack() as stack:
        for (name, _), outcome in zip(moments, pool.map(die, range(3), *zip(*moments, strict=True)), strict=True):
            place, process, came = outcome
            stack.callback(kill.clean_up, process)
            assert 0 <= came < expected[name][1], "the kill came too late to say anything"
            result = kill.run(root / "clips", place, name)
            assert bitwise.differences(bitwise.contents(result), expected[name][0]) == []
