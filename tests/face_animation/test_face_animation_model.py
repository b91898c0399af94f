"""Training of the first-order motion model against steps written out, and its resume, on both backends."""

from helpers import runtime

runtime.quiet_start()

import functools

import h5py
import jax_twin
import keras
import numpy as np
import pytest
from keras import ops

from helpers import training
from helpers.face_animation import layers, losses, model
from helpers.face_animation.model import animation, transform

SIZE = {"size": 32, "num_keypoints": 3}
DETECTOR = {**SIZE, "num_blocks": 1, "width": 4, "max_width": 8, "scale": 0.5}
GENERATOR = {
    **SIZE, "width": 4, "max_width": 8, "num_downs": 1, "num_residuals": 1,
    "motion_width": 4, "motion_max_width": 8, "motion_blocks": 1, "scale": 0.5,
}  # fmt: skip
DISCRIMINATOR = {**SIZE, "width": 4, "max_width": 8, "num_blocks": 2}
SCALES = (1.0, 0.5)
ADVERSARIAL = ["gen_gan", "feature_matching", "disc_gan"]
EQUIVARIANCE = ["equivariance_value", "equivariance_jacobian"]
JAX = keras.backend.backend() == "jax"


def numpy(x):
    return ops.convert_to_numpy(x)


def build(gan=True, *, optimizer=None, eager=True, seed=7, discriminator=None, **options):
    """A model with the same weights at every call; the Jacobians that it finds differ from unit matrices."""
    keras.utils.set_random_seed(0)
    networks = [model.build_keypoint_detector(**DETECTOR), model.build_generator(**GENERATOR)]
    if gan:
        networks.append(model.build_discriminator(**DISCRIMINATOR, **(discriminator or {})))
    rng = np.random.default_rng(0)
    for network in networks:
        for weight in network.weights:
            noise = rng.normal(size=weight.shape) * 0.05
            weight.assign(numpy(weight) * 0.5 + noise if len(weight.shape) == 1 else noise * 3)
    compare = functools.partial(losses.perceptual, losses.build_stand_in(), scales=SCALES)
    options = {"compare": compare, "seed": seed} | options
    whole = animation.AnimationModel(*networks, **options)
    whole.compile(optimizer or keras.optimizers.Adam(2e-4, beta_1=0.5, epsilon=1e-8), run_eagerly=eager)
    return whole


def batch(step=0, count=2):
    rng = np.random.default_rng(step)
    return {name: rng.random((count, 32, 32, 3)).astype("float32") for name in ("source", "driving")}, np.zeros(count)


def waves(count=2):
    """A batch like `batch`, of waves longer than half a picture instead of noise."""
    y, x = np.meshgrid(np.arange(32) / 32, np.arange(32) / 32, indexing="ij")
    rng = np.random.default_rng(0)

    def images():
        phase, rates = rng.uniform(0, 6, (count, 3, 1, 1)), rng.uniform(-1, 1, (count, 3, 2, 1, 1))
        wave = 0.5 + 0.4 * np.sin(2 * np.pi * (rates[:, :, 0] * x + rates[:, :, 1] * y) + phase)
        return wave.transpose(0, 2, 3, 1).astype("float32")

    return {name: images() for name in ("source", "driving")}, np.zeros(count)


def step(whole, number=0, data=None):
    x, y = data or batch(number)
    return {name: float(value) for name, value in whole.train_on_batch(x, y, return_dict=True).items()}


def parts(whole):
    return whole.kp_detector, whole.generator, whole.discriminator


def values(network):
    return [numpy(variable) for variable in network.variables]


JUDGES = {"use_keypoints": False, "scales": (1.0, 0.5)}


@pytest.mark.skipif(JAX, reason="the steps below are written for TensorFlow")
@pytest.mark.parametrize("discriminator, eager", [({}, True), (JUDGES, True), ({}, False)])
def test_one_step_equals_two_optimisers(discriminator, eager, monkeypatch):
    """The original's order: a step for detector and generator, then one for the discriminator on the same prediction.

    Three batches at once, or a graph, round otherwise, by 1e-6, and this network is full of kinks: |a - b| of 100 000 features,
    ReLU, and images that are sampled between pixels. Where one is crossed a gradient jumps, by some per cent on noise. So the
    images are smooth and (a - b)^2 stands for |a - b|.
    """
    import tensorflow as tf

    distance = tf.square
    monkeypatch.setattr(losses, "mean_absolute", lambda a, b: tf.reduce_mean(distance(a - b)))

    # Some biases have no gradient but rounding, since a norm follows: an epsilon above that keeps Adam from following it.
    # Others have gradients of 100, of which six digits stand.
    adams = [keras.optimizers.Adam(1e-3, beta_1=0.5, epsilon=1.0) for _ in range(3)]
    whole = build(discriminator=discriminator, optimizer=adams[2], eager=eager)
    by_hand = build(discriminator=discriminator)
    images = waves()
    logs = step(whole, data=images)
    source, driving = (tf.constant(images[0][name]) for name in ("source", "driving"))
    detector, generator, judge, features = (
        by_hand.kp_detector, by_hand.generator, by_hand.discriminator, losses.build_stand_in()
    )  # fmt: skip

    def judged(images, points):
        inputs = {"image": images, "kp_value": tf.stop_gradient(points)}
        return judge({name: inputs[name] for name in judge.input}, training=True)

    with tf.GradientTape() as tape:
        kp_s, kp_d = detector(source, training=True), detector(driving, training=True)
        points = {f"kp_{who}_{what}": kp[what] for who, kp in (("source", kp_s), ("driving", kp_d)) for what in kp}
        prediction = generator({"source": source, **points}, training=True)["prediction"]
        drawn = transform.draw(2, keras.random.SeedGenerator(7))
        kp_t = detector(transform.warp_images(driving, drawn), training=True)
        terms = {"perceptual": 0.0, "feature_matching": 0.0, "gen_gan": 0.0}
        for scale in SCALES:
            pair = [features(layers.AntiAlias(scale)(images)) for images in (prediction, driving)]
            terms["perceptual"] += 10 * sum(tf.reduce_mean(distance(one - two)) for one, two in zip(*pair, strict=True))
        moved = transform.warp_points(kp_t["value"], drawn)
        terms["equivariance_value"] = 10 * tf.reduce_mean(distance(kp_d["value"] - moved))
        product = tf.linalg.inv(kp_d["jacobian"]) @ transform.jacobian(kp_t["value"], drawn) @ kp_t["jacobian"]
        terms["equivariance_jacobian"] = 10 * tf.reduce_mean(distance(tf.eye(2) - product))
        fake, real = judged(prediction, kp_d["value"]), judged(driving, kp_d["value"])
        for one, two in zip(real["features"], fake["features"], strict=True):
            terms["feature_matching"] += 10 * sum(
                tf.reduce_mean(distance(a - b)) for a, b in zip(one, two, strict=True)
            )
        terms["gen_gan"] += sum(tf.reduce_mean((1 - one) ** 2) for one in fake["prediction"])
        total = sum(terms.values())
    variables = detector.trainable_variables + generator.trainable_variables
    adams[0].apply(tape.gradient(total, [variable.value for variable in variables]), variables)
    with tf.GradientTape() as tape:
        fake, real = judged(tf.stop_gradient(prediction), kp_d["value"]), judged(driving, kp_d["value"])
        pairs = zip(real["prediction"], fake["prediction"], strict=True)
        terms["disc_gan"] = sum(tf.reduce_mean((1 - one) ** 2) + tf.reduce_mean(two**2) for one, two in pairs)
    variables = judge.trainable_variables
    gradients = tape.gradient(terms["disc_gan"], [variable.value for variable in variables])
    adams[1].apply(gradients, variables)

    for name, value in terms.items():
        assert logs[name] == pytest.approx(float(value), rel=1e-5), name
    assert logs["loss"] == pytest.approx(sum(map(float, terms.values())), rel=1e-5)
    for pair in zip(parts(whole), parts(by_hand), strict=True):
        for one, two in zip(*map(values, pair), strict=True):
            np.testing.assert_allclose(one, two, atol=1e-6)


def test_who_moves_whom():
    """With plain gradient steps of rate 1 a change of the weights is a gradient: compare them under other weights."""
    cases = {
        "all": animation.LossWeights(),
        "disc": animation.LossWeights(discriminator_gan=3.0),
        "rest": animation.LossWeights(perceptual=1.0, generator_gan=5.0, equivariance_value=0.0),
    }
    changes = {}
    for name, weights in cases.items():
        whole = build(optimizer=keras.optimizers.SGD(1e-2), weights=weights, eager=not JAX)
        before = [[numpy(v) for v in part.trainable_variables] for part in parts(whole)[1:]]
        step(whole)
        after = [[numpy(v) for v in part.trainable_variables] for part in parts(whole)[1:]]
        changes[name] = [
            np.concatenate([(b - a).ravel() for a, b in zip(*pair, strict=True)])
            for pair in zip(before, after, strict=True)
        ]
    (drawer, judge), (drawer3, judge3), (drawer_rest, judge_rest) = changes.values()
    np.testing.assert_allclose(judge3, 3 * judge, atol=1e-6)
    np.testing.assert_allclose(judge_rest, judge, atol=1e-7)
    np.testing.assert_allclose(drawer3, drawer, atol=1e-7)
    assert abs(judge).max() > 1e-4 and abs(drawer_rest - drawer).max() > 1e-3


def test_without_a_discriminator_and_without_features(monkeypatch):
    """By default pixels are compared; the numbers of TensorFlow must come out on JAX, where other transforms are drawn."""
    still = functools.partial(transform.draw, sigma_affine=0.0, sigma_tps=0.0)
    monkeypatch.setattr(transform, "draw", still)
    whole = build(gan=False, eager=not JAX, compare=None, weights=animation.LossWeights(perceptual=5.0))
    logs = [step(whole, number) for number in range(3)][-1]
    assert set(logs) == {"loss", "perceptual", *EQUIVARIANCE}
    assert logs["loss"] == pytest.approx(sum(logs[name] for name in ("perceptual", *EQUIVARIANCE)), rel=1e-6)
    assert logs["equivariance_value"] < 1e-4  # the same frame again


def test_outputs_of_the_call():
    whole = build(gan=False)
    found = whole(batch()[0])
    alone = whole.kp_detector(batch()[0]["driving"])
    np.testing.assert_allclose(numpy(found["kp_driving_value"]), numpy(alone["value"]), atol=1e-6)
    np.testing.assert_allclose(numpy(found["kp_driving_jacobian"]), numpy(alone["jacobian"]), atol=1e-6)
    assert found["prediction"].shape == (2, 32, 32, 3) and found["mask"].shape == (2, 16, 16, 4)
    assert not np.allclose(numpy(found["kp_source_value"]), numpy(found["kp_driving_value"]))


class Killed(Exception):
    pass


def batches(start, stop=None):
    number = start
    while True:
        if number == stop:
            raise Killed
        yield batch(number)
        number += 1


def fit(whole, folder, stop=None):
    options = {"epochs": 2, "steps_per_epoch": 3, "checkpoint_every": 2}
    return training.fit(whole, lambda start: batches(start, stop), run_dir=folder, **options)


def test_killed_and_resumed_to_the_same_bits(tmp_path, capsys):
    whole = build(eager=not JAX)
    log = fit(whole, tmp_path / "whole")
    with pytest.raises(Killed):
        fit(build(eager=not JAX), tmp_path / "killed", stop=5)
    resumed = build(seed=99, eager=not JAX)  # of the state alone
    again = fit(resumed, tmp_path / "killed")
    assert "resumed at step 4" in capsys.readouterr().out
    for one, two in zip(values(whole), values(resumed), strict=True):
        np.testing.assert_array_equal(one, two)
    names = ["loss", "perceptual", *EQUIVARIANCE, *ADVERSARIAL]
    np.testing.assert_array_equal(log[names], again[names])
    assert log["perceptual"].iloc[1] < log["perceptual"].iloc[0]
    frozen = {tuple(variable.shape) for variable in whole.compare.args[0].variables}
    assert len(whole.variables) == 1 + sum(len(part.variables) for part in parts(whole))  # and the state of the seed
    with h5py.File(tmp_path / "whole" / "final.weights.h5") as file:
        kept = []
        file.visititems(lambda name, item: kept.append(item.shape) if isinstance(item, h5py.Dataset) else None)
    assert not frozen & set(kept) and len(kept) > len(whole.variables)


def test_layers_have_the_same_names_whatever_was_built_before(monkeypatch):
    """TensorFlow adds up gradients in an order that follows names; with numbered ones a training's bits depended on that."""
    names, init = [], keras.layers.Layer.__init__

    def listen(self, *arguments, **options):
        init(self, *arguments, **options)
        names.append(self.name)

    monkeypatch.setattr(keras.layers.Layer, "__init__", listen)
    found = []
    for _ in range(2):
        names.clear()
        whole = build()
        x, y = batch()
        whole.compute_loss(x, y, whole(x, training=True))
        found.append(names.copy())
    assert found[0] == found[1] and "pyramid_0-5" in found[0] and len(found[0]) > 50


def test_half_precision_keeps_the_loss():
    found = []
    for policy in ("mixed_bfloat16", "float32"):
        keras.config.set_dtype_policy(policy)
        try:
            whole = build()
            x, y = batch()
            loss = whole.compute_loss(x, y, whole(x, training=True))
        finally:
            keras.config.set_dtype_policy("float32")
        assert keras.backend.standardize_dtype(loss.dtype) == "float32"
        found.append([float(mean.result()) for mean in whole.term_means])
    assert found[0] == pytest.approx(found[1], rel=0.1) and found[0] != found[1]


@jax_twin.needs_jax
def test_the_same_on_jax():
    names = ["who_moves_whom", "without_a_discriminator", "same_bits"]  # of this file, and these of the losses:
    names += [
        "loops_and_differences",
        "moved_place",
        "seeded_new",
        "perfect_detector",
        "pyramid",
        "by_hand",
        "stand_in",
    ]
    quick = "--xla_backend_optimization_level=0"  # less than half the time to compile
    said = jax_twin.run(__file__, ["face_losses", "face_animation_model"], names, XLA_FLAGS=quick)
    assert "\n12 passed" in said, said
