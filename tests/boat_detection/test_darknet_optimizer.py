"""Darknet's update rule and learning rate against the rules in NumPy; test_darknet_log_callback holds them to Darknet's own."""

from helpers import runtime

runtime.quiet_start()

import keras
import numpy as np
import pytest

from helpers.boat_detection.formats.darknet.optimizers import DarknetSchedule, DarknetSGD

SHAPES = {"kernel": (3, 3, 2, 4), "bias": (4,), "gamma": (4,)}


def starts(seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("subdivisions", [1, 3])
def test_five_steps_by_numpy(subdivisions):
    """Over the end of the burn-in and a step of the rate; the accumulated gradients are averaged."""
    momentum, decay = 0.8, 0.05
    schedule = DarknetSchedule(0.1, 3, (4,), (0.1,), subdivisions)
    options = {"gradient_accumulation_steps": subdivisions} if subdivisions > 1 else {}
    optimizer = DarknetSGD(schedule, momentum, decay, **options)
    variables = [keras.Variable(value, dtype="float32", name=name) for name, value in starts().items()]
    optimizer.build(variables)
    expected, velocity = starts(), dict.fromkeys(SHAPES, 0.0)
    for t, rate in enumerate([0.1 / 81, 0.1 * 16 / 81, 0.1, 0.01, 0.01], start=1):
        gradients = [starts(10 * t + part) for part in range(subdivisions)]
        for gradient in gradients:
            optimizer.apply([keras.ops.convert_to_tensor(gradient[name], "float32") for name in SHAPES], variables)
        for name in SHAPES:
            g = sum(gradient[name] for gradient in gradients) / subdivisions
            velocity[name] = momentum * velocity[name] - (g + decay * expected[name] * (name == "kernel"))
            expected[name] = expected[name] + rate * velocity[name]
        for variable in variables:
            np.testing.assert_allclose(
                keras.ops.convert_to_numpy(variable), expected[variable.name], rtol=1e-4, atol=1e-6
            )
    assert int(optimizer.iterations) == 5


def test_only_a_constant_rate_gives_keras_own_rule():
    """Keras keeps the rate inside the velocity; if that made no difference, this optimiser would not be needed."""
    ends = {}
    for rule in ("darknet", "keras"):
        for rate in (0.1, DarknetSchedule(0.1, 0, steps=(2,), scales=(0.1,))):
            own = rule == "darknet"
            optimizer = DarknetSGD(rate, 0.9, 0.0) if own else keras.optimizers.SGD(rate, momentum=0.9)
            variable = keras.Variable([1.0])
            for _ in range(3):
                optimizer.apply([keras.ops.convert_to_tensor([1.0])], [variable])
            ends[rule, isinstance(rate, float)] = float(variable.value[0])
    assert ends["darknet", True] == pytest.approx(ends["keras", True])
    assert abs(ends["darknet", False] - ends["keras", False]) > 0.05


RATES = [
    (1, 1e-3 / 1000**4),
    (999, 1e-3 * 0.999**4),
    (1000, 1e-3),
    (3999, 1e-3),
    (4000, 1e-4),
    (4499, 1e-4),
    (4500, 5e-6),
]


@pytest.mark.parametrize("t, expected", RATES)
@pytest.mark.parametrize("subdivisions", [1, 16])
def test_rate_at_update(t, expected, subdivisions):
    schedule = DarknetSchedule(1e-3, 1000, steps=(4000, 4500), scales=(0.1, 0.05), subdivisions=subdivisions)
    for part in (0, subdivisions - 1):
        assert float(schedule((t - 1) * subdivisions + part)) == pytest.approx(expected, rel=1e-5)


def test_without_burn_in():
    assert float(DarknetSchedule(0.5, 0)(0)) == 0.5


def test_round_trips():
    values = {
        "learning_rate": 0.3,
        "burn_in": 7,
        "steps": [8, 9],
        "scales": [0.2, 0.3],
        "subdivisions": 4,
    }
    schedule = DarknetSchedule(**values)
    assert schedule.get_config() == values
    optimizer = DarknetSGD(
        schedule, momentum=0.7, decay=0.02, name="boats", gradient_accumulation_steps=4, use_ema=True
    )
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(again, DarknetSGD) and again.get_config() == optimizer.get_config()
    config = again.get_config()
    assert (config["momentum"], config["decay"], config["gradient_accumulation_steps"]) == (0.7, 0.02, 4)
    assert float(again.learning_rate) == pytest.approx(0.3 / 7**4)
