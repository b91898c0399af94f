"""Scores, counts and rates of face_animation against numbers of the original and what scikit-learn and loops give."""

from helpers import runtime

runtime.quiet_start()

import dataclasses
import types

import keras
import numpy as np
import pandas as pd
import pytest
from keras import ops
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error

from helpers import video
from helpers.face_animation import evaluation, hourglass, losses, model, networks, prepare, runs
from helpers.face_animation.config import FaceAnimationConfig

CONFIG = FaceAnimationConfig(source="mini", n_groups=1, size=32, network="tiny64", perceptual="stand_in", seed=5)


def frames(seed, count=4, size=16):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


# --- scores ---


def test_scores_leave_out_the_frame_that_was_given():
    clip, drawn = frames(0), frames(1)
    found = evaluation.score_clip(clip, drawn)
    differences = (drawn[1:].astype(float) - clip[1:]) / 255
    assert found["l1"] == pytest.approx(np.abs(differences).mean())
    assert found["psnr"] == pytest.approx(np.mean([10 * np.log10(1 / np.square(d).mean()) for d in differences]))
    drawn[1:] = clip[1:]
    assert evaluation.score_clip(clip, drawn) == {"l1": 0, "psnr": np.inf, "ssim": pytest.approx(1)}


def test_every_frame_weighs_the_same():
    rng = np.random.default_rng(0)
    single = {name: {"long": rng.random(9), "short": rng.random(2)} for name in ("b", "a")}
    rows = [
        {"drawer": name, "clip": clip, "frames": len(values), **{s: i + values.mean() for i, s in enumerate(evaluation.SCORES)}}
        for name, clips in single.items()
        for clip, values in clips.items()
    ]  # fmt: skip
    found = evaluation.summarise(pd.DataFrame(rows))
    assert list(found) == ["drawer", "l1", "psnr", "ssim"] and found["drawer"].tolist() == ["b", "a"]
    for row, clips in zip(found.to_dict("records"), single.values(), strict=True):
        mean = np.concatenate(list(clips.values())).mean()
        assert [row["l1"], row["psnr"], row["ssim"]] == pytest.approx([mean, 1 + mean, 2 + mean])


class Finder:
    """An animator whose keypoints are some numbers of the frames' own, and which draws frames of one grey."""

    def __init__(self, grey=0):
        self.grey = grey

    def keypoints(self, clip):
        return {"value": clip[:, :3, 0, :2] / 127.5 - 1}

    def reconstruct(self, clip):
        return np.full_like(clip, self.grey)

    def animate(self, picture, clip, **options):
        self.options = options
        return np.full_like(clip, self.grey)


def test_points_are_followed_as_scikit_learn_would():
    rng = np.random.default_rng(0)
    parts = [[(frames(seed, count), rng.uniform(0, 64, (count, 4, 2))) for seed, count in part]
             for part in ([(1, 9), (2, 30)], [(3, 5), (4, 2)])]  # fmt: skip
    found = evaluation.follow_points({"still": None, "moving": Finder()}, *parts)
    assert list(found) == ["drawer", "keypoint_error"] and found["drawer"].tolist() == ["still", "moving"]
    known, wanted = (np.concatenate([points for _, points in part]).reshape(-1, 8) for part in parts)
    seen, new = (np.concatenate([f[:, :3, 0, :2] for f, _ in part]).reshape(-1, 6) / 127.5 - 1 for part in parts)
    guess = Ridge(alpha=39e-4).fit(seen, known).predict(new)
    expected = [mean_absolute_error(wanted, np.tile(known.mean(axis=0), (7, 1))), mean_absolute_error(wanted, guess)]
    assert found["keypoint_error"].tolist() == pytest.approx(expected)


@pytest.fixture
def clips(tmp_path):
    """Three clips of unlike length below tmp_path, and their table."""
    found = {f"{count}.mp4": frames(count, count) for count in (2, 9, 5)}
    for name, clip in found.items():
        prepare.write_folder(tmp_path / "test" / name, clip)
    table = pd.DataFrame({"clip": list(found), "path": [f"test/{name}" for name in found], "frames": [2, 9, 5]})
    return found, table


@pytest.mark.parametrize("count, numbers", [(None, range(9)), (3, [0, 4, 8]), (4, [0, 3, 5, 8]), (99, range(9))])
def test_frames_are_evenly_spaced(clips, tmp_path, count, numbers):
    found, table = clips
    (_, (nine, places), _) = evaluation.read_clips(table, tmp_path, frames=count)
    assert places.tolist() == list(numbers) and (nine == found["9.mp4"][list(numbers)]).all()


def test_every_drawer_gets_every_clip(clips, tmp_path):
    found, table = clips
    rows = evaluation.score_all({evaluation.COPY: None, "black": Finder(0)}, table, tmp_path, frames=3)
    assert rows["clip"].tolist() == ["2.mp4"] * 2 + ["9.mp4"] * 2 + ["5.mp4"] * 2
    assert rows["frames"].tolist() == [1, 1, 2, 2, 2, 2]
    copy, black = rows.iloc[2]["l1"], rows.iloc[3]["l1"]
    clip = found["9.mp4"][[0, 4, 8]] / 255
    assert [copy, black] == pytest.approx([np.abs(clip[1:] - clip[0]).mean(), clip[1:].mean()])


def test_columns_of_an_animation_and_one_that_is_there_is_kept(clips, tmp_path):
    _, table = clips
    pairs = pd.DataFrame({"source": ["2.mp4", "9.mp4"], "driving": ["5.mp4", "2.mp4"]})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "001.mp4").write_bytes(b"of the run that was killed")
    dark, light = Finder(40), Finder(200)
    config = dataclasses.replace(CONFIG, relative=False, adapt_scale=False, start="first")
    made = evaluation.animate_pairs(config, pairs, table, tmp_path, {"a": dark, "b": light}, tmp_path / "out")
    assert made.to_dict("list") == {**pairs.to_dict("list"), "file": ["000.mp4", "001.mp4"]}
    assert (tmp_path / "out" / "001.mp4").read_bytes() == b"of the run that was killed"
    assert dark.options == {"relative": False, "adapt_scale": False, "start": "first"}
    found = np.stack(list(video.read_frames(tmp_path / "out" / "000.mp4")))
    assert found.shape == (5, 16, 64, 3)
    assert [found[:, :, left + 4 : left + 12].mean() for left in (32, 48)] == pytest.approx([40, 200], abs=8)


# --- sizes of the original, 256 x 256 ---


@pytest.mark.parametrize(
    "variant, products, parameters",
    [("fomm", 1.277, 14_215_368), ("fomm_6b", 1.428, 37_814_472), ("unet", 2.221, 29_931_624), ("unet3plus", 3.290, 14_578_955)],
)  # fmt: skip
def test_products_and_parameters_of_the_detectors(variant, products, parameters):
    network = model.build_keypoint_detector(variant)
    assert evaluation.count_products(network) / 1e9 == pytest.approx(products, abs=5.1e-4)
    assert evaluation.count_parameters(network) == parameters


def test_products_and_parameters_of_the_generator():
    network = networks.build_generator(dataclasses.replace(CONFIG, size=256, network="vox256"))
    assert evaluation.count_products(network) / 1e9 == pytest.approx(53.64, abs=5.1e-3)
    assert evaluation.count_parameters(network) == 45_575_391


def test_a_measure_says_what_is_what(monkeypatch):
    monkeypatch.setattr(evaluation, "time_frames", lambda animator, clip: 12.5)
    detector, generator = networks.build_detector(CONFIG, "unet"), networks.build_generator(CONFIG)
    animator = types.SimpleNamespace(kp_detector=detector, generator=generator)
    found = evaluation.measure("unet", animator, frames(0))
    assert list(found.values()) == [
        "unet", evaluation.count_parameters(detector), evaluation.count_products(detector) / 1e6,
        evaluation.count_parameters(generator), evaluation.count_products(generator) / 1e6, 12.5,
    ]  # fmt: skip


# --- networks of a configuration ---


def rates(config, steps_per_epoch, epochs):
    """The rate of every step, seen in how far plain gradient descent moves a variable of gradient -1."""
    variable = keras.Variable(0.0)
    optimizer = keras.optimizers.SGD(networks.learning_rate(config, steps_per_epoch))
    places = [0.0]
    for _ in range(steps_per_epoch * epochs):
        optimizer.apply([ops.convert_to_tensor(-1.0)], [variable])
        places.append(float(ops.convert_to_numpy(variable.value)))
    return np.diff(places).reshape(epochs, steps_per_epoch)


@pytest.mark.parametrize("milestones", [(), (1,), (2, 3), (2, 5)])
def test_the_rate_falls_after_each_milestone(milestones):
    config = dataclasses.replace(CONFIG, milestones=milestones, learning_rate=0.8)
    found = rates(config, 3, 5)
    for epoch, row in enumerate(found, start=1):  # epochs from 1: after so many epochs ...
        expected = 0.8
        for milestone in milestones:
            if epoch > milestone:
                expected /= 10
        np.testing.assert_allclose(row, expected, rtol=1e-4)


def test_all_variants_start_from_the_same_generator_and_discriminator():
    built = {variant: networks.build_model(CONFIG, variant, steps_per_epoch=2) for variant in ("fomm", "unet3plus")}
    first, other = built.values()
    for part in ("generator", "discriminator"):
        for one, two in zip(getattr(first, part).get_weights(), getattr(other, part).get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)
    assert other.kp_detector.count_params() != first.kp_detector.count_params()
    other = networks.build_generator(dataclasses.replace(CONFIG, seed=6)).get_weights()
    assert any((one != two).any() for one, two in zip(first.generator.get_weights(), other, strict=True))
    again = runs.load_networks(CONFIG, "fomm")[0].get_weights()  # what the evaluation takes for untrained is that
    assert all((one == two).all() for one, two in zip(first.kp_detector.get_weights(), again, strict=True))


def test_settings_arrive_in_the_networks():
    config = dataclasses.replace(
        CONFIG, align_corners=False, discriminator_keypoints=False, spectral_norm=True, perceptual_weight=3.0,
        equivariance_value=4.0, equivariance_jacobian=5.0, generator_gan=6.0, feature_matching=7.0, scale=0.5,
    )  # fmt: skip
    whole = networks.build_model(config, "fomm", steps_per_epoch=2)
    assert not whole.generator.get_layer("warp").align_corners and list(whole.discriminator.input) == ["image"]
    assert any(isinstance(layer, hourglass.SpectralConv2D) for layer in whole.discriminator.layers)
    assert whole.loss_weights.by_term() == {
        "perceptual": 3, "equivariance_value": 4, "equivariance_jacobian": 5, "gen_gan": 6, "feature_matching": 7, "disc_gan": 1
    }  # fmt: skip
    assert whole.generator.get_layer("dense_motion_network_down").output.shape[1:3] == (16, 16)
    assert (whole.optimizer.beta_1, whole.optimizer.beta_2, whole.optimizer.epsilon) == (0.5, 0.999, 1e-8)
    without = networks.build_model(
        dataclasses.replace(config, generator_gan=0.0, scale=None), "fomm", steps_per_epoch=2
    )
    assert without.discriminator is None
    assert without.generator.get_layer("dense_motion_network_down").output.shape[1:3] == (8, 8)


# --- what is watched in training ---


def test_watched_pairs_stay_the_same_and_are_as_many_as_asked(clips, tmp_path):
    found, table = clips
    config = dataclasses.replace(CONFIG, watch_pairs=7, size=16, augment=True)
    pairs, again = (runs.watched_pairs(config, table, tmp_path) for _ in range(2))
    for name in ("source", "driving"):
        assert pairs[name].shape == (7, 16, 16, 3) and (pairs[name] == again[name]).all()
    everything = np.concatenate(list(found.values()))
    for picture in (pairs["driving"] * 255).round():  # frames as they are: not mirrored, not tinted
        assert (picture == everything).all(axis=(1, 2, 3)).any()


def test_watch_measures_and_draws_and_moves_nothing(tmp_path):
    config = dataclasses.replace(CONFIG, generator_gan=0.0)
    whole = networks.build_model(config, "fomm", steps_per_epoch=3)
    rng = np.random.default_rng(0)
    pairs = {name: rng.random((6, 32, 32, 3)).astype("float32") for name in ("source", "driving")}
    watch = runs.Watch(whole, pairs, tmp_path, 3)
    before = [ops.convert_to_numpy(variable) for variable in whole.variables]
    whole.optimizer.iterations.assign(6)
    (value,) = watch().items()
    inputs = {name: ops.convert_to_tensor(images) for name, images in pairs.items()}
    drawn = ops.convert_to_numpy(whole(inputs, training=False)["prediction"])
    assert value == ("watch_l1", pytest.approx(np.abs(drawn - pairs["driving"]).mean(), rel=1e-5))
    assert [path.name for path in (tmp_path / "seen").iterdir()] == ["0002.png"]
    width, height = Image.open(tmp_path / "seen" / "0002.png").size
    assert width >= len(runs.COLUMNS) * 32 and height >= runs.SHOWN * 32
    after = [ops.convert_to_numpy(variable) for variable in whole.variables]
    assert all((one == two).all() for one, two in zip(before, after, strict=True))


@pytest.mark.parametrize("size, blocks", [(256, 5), (128, 5), (64, 4), (32, 3)])
def test_vgg_is_as_deep_as_the_smallest_scale_allows(size, blocks, monkeypatch):
    build = losses.build_vgg19
    monkeypatch.setattr(losses, "build_vgg19", lambda **options: build(None, **options))
    features = networks.build_features(dataclasses.replace(CONFIG, size=size, perceptual="vgg19"))
    smallest = losses.image_pyramid(np.zeros((1, size, size, 3), "float32"))[-1]
    assert len(features(smallest)) == blocks and min(features(smallest)[-1].shape[1:3]) >= 1
