"""Networks of a configuration, the rate, and what is watched in training."""

from helpers import runtime

runtime.quiet_start()

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image

from helpers import workspace
from helpers.face_animation import losses, runs
from helpers.face_animation.batches import Batches
from helpers.face_animation.config import FaceAnimationConfig
from helpers.face_animation.evaluation import visualiser
from helpers.face_animation.model import hourglass

CONFIG = FaceAnimationConfig(source="mini", n_groups=1, size=32, network="tiny64", perceptual="stand_in", seed=5)


def rates(config, steps_per_epoch, epochs):
    """The rate of every step, seen in how far plain gradient descent moves a variable of gradient -1."""
    variable = keras.Variable(0.0)
    optimizer = keras.optimizers.SGD(runs.learning_rate(config.learning_rate, config.milestones, steps_per_epoch))
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
    built = {variant: runs.build_network(CONFIG, variant, steps_per_epoch=2) for variant in ("fomm", "unet3plus")}
    first, other = built.values()
    for part in ("generator", "discriminator"):
        for one, two in zip(getattr(first, part).get_weights(), getattr(other, part).get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)
    assert other.kp_detector.count_params() != first.kp_detector.count_params()
    other = runs.new_generator(dataclasses.replace(CONFIG, seed=6)).get_weights()
    assert any((one != two).any() for one, two in zip(first.generator.get_weights(), other, strict=True))
    again = runs.load_networks(CONFIG, "fomm")[0].get_weights()  # what the evaluation takes for untrained is that
    assert all((one == two).all() for one, two in zip(first.kp_detector.get_weights(), again, strict=True))


def test_settings_arrive_in_the_networks():
    config = dataclasses.replace(
        CONFIG, align_corners=False, discriminator_keypoints=False, spectral_norm=True, perceptual_weight=3.0,
        equivariance_value=4.0, equivariance_jacobian=5.0, generator_gan=6.0, feature_matching=7.0, scale=0.25,
    )  # fmt: skip
    whole = runs.build_network(config, "fomm", steps_per_epoch=2)
    assert not whole.generator.get_layer("warp").align_corners and list(whole.discriminator.input) == ["image"]
    assert any(isinstance(layer, hourglass.SpectralConv2D) for layer in whole.discriminator.layers)
    assert whole.loss_weights.by_term() == {
        "perceptual": 3, "equivariance_value": 4, "equivariance_jacobian": 5, "gen_gan": 6,
        "feature_matching": 7, "disc_gan": 1, "warped": 0,
    }  # fmt: skip
    assert whole.generator.get_layer("dense_motion_network_down").output.shape[1:3] == (8, 8)
    assert (whole.optimizer.beta_1, whole.optimizer.beta_2, whole.optimizer.epsilon) == (0.5, 0.999, 1e-8)
    without = runs.build_network(dataclasses.replace(config, generator_gan=0.0, scale=None), "fomm", steps_per_epoch=2)
    assert without.discriminator is None
    assert without.generator.get_layer("dense_motion_network_down").output.shape[1:3] == (16, 16)


def test_a_skip_is_watched_and_its_warp_is_scored_too(tmp_path):
    config = dataclasses.replace(CONFIG, generator_gan=0.0, generator="skip", warped_weight=2.0)
    whole = runs.build_network(config, "fomm", steps_per_epoch=3)
    rng = np.random.default_rng(0)
    pairs = {name: rng.random((4, 32, 32, 3)).astype("float32") for name in ("source", "driving")}
    outputs = whole({name: ops.convert_to_tensor(images) for name, images in pairs.items()}, training=False)
    terms = whole.compute_terms(ops.convert_to_tensor(pairs["driving"]), outputs)
    compare = runs.build_loss(config)
    assert float(terms["warped"]) == pytest.approx(float(compare(outputs["warped"], pairs["driving"])), rel=1e-5)
    assert whole.loss_weights.by_term()["warped"] == 2 and whole.term_names()[:2] == ["perceptual", "warped"]
    runs.Watch(whole, pairs, tmp_path, 3)()
    assert Image.open(next((tmp_path / "seen").iterdir())).size[0] == len(runs.SEEN_COLUMNS) * (32 + 4)
    with pytest.raises(ValueError, match=r"warped_weight: received 2\.0 with generator paper"):
        dataclasses.replace(config, generator="paper")


def test_an_own_loss_takes_the_place_of_the_pictures_distance():
    def build_loss(config):
        return lambda prediction, driving: 7.0 + 0.0 * ops.mean(prediction)

    config = dataclasses.replace(CONFIG, generator_gan=0.0)
    with workspace.own(runs, build_loss=build_loss):
        whole = runs.build_network(config, "fomm", steps_per_epoch=3)
    pairs = {name: ops.zeros((2, 32, 32, 3)) for name in ("source", "driving")}
    assert float(whole.compute_terms(pairs["driving"], whole(pairs, training=False))["perceptual"]) == 7


# --- what is watched in training ---


def test_watched_pairs_stay_the_same_and_are_as_many_as_asked(clips, tmp_path):
    found, table = clips
    config = dataclasses.replace(CONFIG, watch_pairs=7, size=16, augment=True)
    pairs, again = (runs.watched_pairs(config, table, tmp_path) for _ in range(2))
    options = {"batch_size": 7, "repeats": 3, "size": (16, 16), "augmentation": False, "seed": config.seed}
    expected = Batches(table, tmp_path, **options).pairs(0, "watch")  # not the numbers of a training's first step
    for name in ("source", "driving"):
        assert pairs[name].shape == (7, 16, 16, 3) and (pairs[name] == again[name]).all()
        np.testing.assert_array_equal(pairs[name], expected[name])
    everything = np.concatenate(list(found.values()))
    for picture in (pairs["driving"] * 255).round():  # frames as they are: not mirrored, not tinted
        assert (picture == everything).all(axis=(1, 2, 3)).any()


@pytest.mark.parametrize("corners", [True, False])
def test_what_is_seen_is_sampled_as_the_network_samples(tmp_path, corners):
    whole = runs.build_network(dataclasses.replace(CONFIG, align_corners=corners), "fomm", steps_per_epoch=3)
    rng = np.random.default_rng(0)
    pairs = {name: rng.random((2, 32, 32, 3)).astype("float32") for name in ("source", "driving")}
    runs.Watch(whole, pairs, tmp_path, 3)()
    outputs = whole({name: ops.convert_to_tensor(images) for name, images in pairs.items()}, training=False)
    found = visualiser.columns(*pairs.values(), pairs | outputs, align_corners=corners)
    wanted = visualiser.draw_columns({name: found[name] for name in runs.SEEN_COLUMNS if name in found})
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "seen" / "0000.png")), wanted)
    other = visualiser.columns(*pairs.values(), pairs | outputs, align_corners=not corners)
    assert (other["deformed"] != found["deformed"]).any()


def test_watch_measures_and_draws_and_moves_nothing(tmp_path):
    config = dataclasses.replace(CONFIG, generator_gan=0.0)
    whole = runs.build_network(config, "fomm", steps_per_epoch=3)
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
    assert width >= (len(runs.SEEN_COLUMNS) - 2) * 32 and height >= runs.SEEN_PAIRS * 32
    after = [ops.convert_to_numpy(variable) for variable in whole.variables]
    assert all((one == two).all() for one, two in zip(before, after, strict=True))


@pytest.mark.parametrize("size, blocks", [(256, 5), (128, 5), (64, 4), (32, 3)])
def test_vgg_is_as_deep_as_the_smallest_scale_allows(size, blocks, monkeypatch):
    build = losses.build_vgg19
    monkeypatch.setattr(losses, "build_vgg19", lambda **options: build(None, **options))
    features = runs.build_features(dataclasses.replace(CONFIG, size=size, perceptual="vgg19"))
    smallest = losses.image_pyramid(np.zeros((1, size, size, 3), "float32"))[-1]
    assert len(features(smallest)) == blocks and min(features(smallest)[-1].shape[1:3]) >= 1
