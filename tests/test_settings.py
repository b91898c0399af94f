"""Each setting against its machine, a free Colab with a T4; the constants of `needs` are counted again in the networks."""

from helpers import runtime

runtime.quiet_start()

import dataclasses

import numpy as np
import pytest

from helpers import config as configs
from helpers import estimates
from helpers.boat_detection import config as boats
from helpers.boat_detection import runs as boat_runs
from helpers.boat_detection.augment import resizing
from helpers.boat_detection.formats.darknet import builder, cfg_files
from helpers.circulant_video import config as circulant
from helpers.circulant_video import experiments, splits
from helpers.circulant_video import model as circulant_model
from helpers.circulant_video.sources import youtube8m
from helpers.course.notebooks import PROJECTS
from helpers.estimates import Network, together
from helpers.face_animation import config as faces
from helpers.face_animation import losses
from helpers.face_animation import runs as face_runs
from helpers.fetch import manifests
from helpers.lip_reading import config as lips
from helpers.lip_reading import model as lip_model
from helpers.temporal_coherence import config as temporal
from helpers.temporal_coherence import model as temporal_model
from helpers.training import checkpoints
from tests import counting

GIGA = 1e9
LIMITS = {"disk": 78 * GIGA, "memory": 12.7 * GIGA, "gpu_memory": 15 * GIGA, "minutes": 12 * 60}
HOUR = 75  # minutes of a t4, "about an hour"
WRITTEN = 20 * GIGA  # of checkpoints
PASSED = {("circulant_video", "full"): {"disk", "minutes"}, ("face_animation", "full"): {"disk", "minutes"}}
SETTINGS = [(project, name) for project in PROJECTS for name in ("t4", "full")]


def settings(project: str, name: str):
    return configs.load(configs.find(project, name), configs.schema_of(project))


def frames(size: int, count: int = 1):
    return np.zeros((count, size, size, 3), "float32")


def agree(stated: Network, counted: tuple[float, float], parameters: float) -> None:
    """Within five of a hundred."""
    np.testing.assert_allclose(dataclasses.astuple(stated), (counted[0], parameters, counted[1]), rtol=0.05)


@pytest.fixture(scope="module")
def needed():
    """All steps of each setting together."""
    return {(project, name): together(*settings(project, name).needs().values()) for project, name in SETTINGS}


@pytest.mark.parametrize("setting", SETTINGS, ids="/".join)
def test_a_setting_fits_a_free_colab_or_its_comment_says_that_it_does_not(needed, setting):
    limits = LIMITS | ({"minutes": HOUR} if setting[1] == "t4" else {})
    passed = {name for name, limit in limits.items() if getattr(needed[setting], name) > limit}
    assert passed == PASSED.get(setting, set())
    assert ("is refused" in comment(setting)) == bool(passed)
    if setting != ("circulant_video", "full"):
        assert needed[setting].written < WRITTEN


def comment(setting):
    text = configs.find(*setting).read_text(encoding="utf-8")
    return " ".join(" ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#")).split())


@pytest.mark.parametrize("setting", SETTINGS, ids="/".join)
def test_the_comment_has_the_computed_numbers(needed, setting):
    need, text = needed[setting], comment(setting)
    time = f"{need.minutes:.0f} minutes" if need.minutes < 120 else f"{need.minutes / 60:.0f} hours"
    for words in (f"{need.download / GIGA:.1f} GB", f"{need.disk / GIGA:.1f} GB", time, "omputed, not measured"):
        assert words in text, words


def test_the_readme_has_the_computed_table(needed):
    sizes = ("download", "disk", "memory", "gpu_memory")
    rows = []
    for (project, name), need in needed.items():
        cells = [f"{getattr(need, size) / GIGA:.1f}" for size in sizes]
        rows.append(f"| {' | '.join([project, f'`{name}`', *cells, f'{need.minutes:.0f}'])} |")
    readme = (runtime.repo_root() / "README.md").read_text(encoding="utf-8")
    assert "\n".join(rows) in readme, "\n".join(["README.md should have:", *rows])


def test_drawn_data_and_folders_of_ones_own_need_what_nobody_knows():
    for project in PROJECTS:
        mini = settings(project, "mini")
        assert mini.needs() == {}
        if project == "lip_reading":
            assert dataclasses.replace(mini, source="local").needs() == {}
    assert dataclasses.replace(settings("face_animation", "t4"), source="local", local_folder="x").needs() == {}
    assert dataclasses.replace(settings("circulant_video", "t4"), source="local", local_folder="x").needs() == {}


def test_steps_are_called_as_the_estimates_call_them():
    names = ["build_dataset", "preprocess", "split", "train", "evaluate"]
    assert all(set(settings(*setting).needs()) <= set(names) for setting in SETTINGS)
    assert estimates.KEPT == checkpoints.KEEP


def test_fewer_videos_of_ones_own_need_less(tmp_path):
    full = settings("face_animation", "full")
    for number in range(344):
        (tmp_path / f"{number}.mp4").touch()
    need = dataclasses.replace(full, local_folder=str(tmp_path)).needs()["preprocess"]
    np.testing.assert_allclose(need.disk, full.needs()["preprocess"].disk / 10, rtol=0.01)


def test_circulant_holds_out_enough_shards():
    config = settings("circulant_video", "t4")
    plan = [
        f"{side}{a}{b}.tfrecord" for side in ("train", "validate") for a in youtube8m.LETTERS for b in youtube8m.LETTERS
    ]
    chosen = youtube8m.select_shards(plan, config.shard_part, config.shard_of)
    sides = splits.split_shards(chosen, rule=config.split_rule)
    assert (len(sides["train"]), len(sides["validation"])) == (21, 25) and len(config.seeds) == 3
    sizes = {"train": circulant.SHARD["train"], "validation": circulant.SHARD["validate"]}
    bytes_chosen = sum(size * len(sides[side]) for side, size in sizes.items())
    np.testing.assert_allclose(config.needs()["build_dataset"].download, bytes_chosen, rtol=0.1)


def test_manifests_say_the_same():
    ucf101, open_images, youtube = (manifests.load_manifest(name) for name in ("ucf101", "open_images", "youtube8m"))
    ten = ucf101.counts["ten_classes"]
    assert {name: row["train"] + row["test"] for name, row in ten.items()} == temporal.CLIPS
    for subset, kinds in open_images.counts["subsets"].items():
        assert sum(open_images.file(name).size for name in kinds.values()) == boats.TABLES[subset]
    assert youtube.counts["videos"].items() >= circulant.VIDEOS.items()
    sizes = youtube.counts["approximate_bytes"]
    assert [sizes[f"frame_{side}_shard"] for side in ("train", "validate")] == [*circulant.SHARD.values()]
    assert manifests.load_manifest("ravdess").counts["approximate_bytes"]["actor"] == faces.ACTOR


@pytest.mark.parametrize(("variant", "wide"), [("seed", 4096), ("paper", 4096), ("paper", 1024)])
def test_temporal_coherence_is_counted(variant, wide):
    trunk = temporal_model.build_trunk(variant, wide, 227)
    stated = temporal.network_of(temporal.TemporalCoherenceConfig(source="ucf101", variant=variant, embedding_dim=wide))
    agree(stated, counting.count(lambda x: trunk(x, training=True), frames(227)), trunk.count_params())


@pytest.mark.parametrize("setting", ["t4", "full"])
def test_circulant_video_is_counted(setting):
    config = settings("circulant_video", setting)
    example = {"frames": np.zeros((1, 150, 1152), "uint8"), "num_frames": np.zeros(1, "int32")}
    names = experiments.run_names(config.experiments, features=2)
    for name in names if setting == "t4" else ("dbof", "dbof all", "netvlad", "netfv", "video"):
        network = circulant_model.build_classifier(**experiments.arguments(name, config))
        flops, made = counting.count(lambda x, network=network: network(x, training=True), example)
        stated, halves = circulant.network_of(config, name), 2
        assert made < 1.05 * stated.made / halves, "a bound"
        if experiments.own_arguments(name, features=2).get("compact"):
            assert flops < 1.05 * stated.flops / halves and network.count_params() < 1.05 * stated.parameters
        else:
            np.testing.assert_allclose(
                (stated.flops / halves, stated.parameters), (flops, network.count_params()), rtol=0.05
            )


@pytest.mark.parametrize("network", boats.NETWORKS)
def test_boat_detection_is_counted(tmp_path, network):
    path = tmp_path / "network.cfg"
    path.write_text(boat_runs.write_cfg(boats.BoatDetectionConfig(source="open_images", network=network), 1, None))
    built = builder.build_from_cfg(cfg_files.read_cfg(path))
    agree(boats.WORKS[network], counting.count(lambda x: built(x, training=True), frames(416)), built.count_params())


def test_boat_detection_changes_its_size_as_stated():
    options = {"seed": 0, "size": 416, "dialect": "alexeyab", "random": 1.4, "max_batches": 20_000}
    areas = [(resizing.multi_scale_size(step, **options)[0] / 416) ** 2 for step in range(0, 20_000, 10)]
    np.testing.assert_allclose((np.mean(areas), max(areas)), boats.SCALES, rtol=0.05)


@pytest.mark.parametrize(("model", "setting"), [("openav", "t4"), ("openav", "full"), ("conv3d_bigru", "t4")])
def test_lip_reading_is_counted(model, setting):
    config = dataclasses.replace(settings("lip_reading", setting), model=model)
    shape = (config.len_video, *config.size, 1)
    network = counting.unroll(lip_model.BUILDERS[model](25, 1, config.size, config.len_video))
    counted = counting.count(lambda x: network(x, training=True), np.zeros((1, *shape), "float32"))
    agree(lips.network_of(config), counted, network.count_params())


@pytest.mark.parametrize("judged", [0.0, 1.0])
@pytest.mark.parametrize("setting", ["t4", "full"])
def test_face_animation_is_counted(setting, judged, monkeypatch):
    config = dataclasses.replace(settings("face_animation", setting), generator_gan=judged)
    monkeypatch.setattr(face_runs, "build_features", lambda config: losses.build_vgg19(None, blocks=5))
    example = {"source": frames(config.size), "driving": frames(config.size)}
    drawing = []
    few = {("t4", 0.0): config.variants, ("full", 0.0): ("fomm_6b", "unet3plus")}  # the wide ones take long to trace
    for variant in few.get((setting, judged), ("fomm",)):
        whole = face_runs.build_network(config, variant, steps_per_epoch=10)
        parameters = sum(np.prod(variable.shape) for variable in whole.trainable_variables)
        counted = counting.count(lambda x, w=whole: w.compute_loss(x, None, w(x, training=True)), example)
        agree(faces.network_of(config, variant), counted, parameters)
        drawing.append(counting.count(lambda x, w=whole: w(x, training=False), example)[0])
    if len(drawing) > 1:
        np.testing.assert_allclose(faces.DRAWING[config.network], np.mean(drawing), rtol=0.1)
