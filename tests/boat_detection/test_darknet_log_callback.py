"""The log and the weights that a training leaves, against a training by Darknet itself, and after kills."""

from helpers import runtime

runtime.quiet_start()

import importlib.util
import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from helpers import training
from helpers.boat_detection.formats.darknet import builder, keras_weights, log_callback, logs
from helpers.boat_detection.formats.darknet.cfg_files import parse_cfg
from helpers.boat_detection.formats.darknet.optimizers import DarknetSchedule, DarknetSGD
from helpers.boat_detection.model import Detector, build_loss
from helpers.training import checkpoints

GOLDEN = Path(__file__).with_name("golden")
spec = importlib.util.spec_from_file_location("make_darknet_training", GOLDEN / "make_darknet_training.py")
recipe = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = recipe
spec.loader.exec_module(recipe)

SUBDIVISIONS, MINI, STEPS, EPOCHS = 2, 2, 6, 2  # mini-batches per update, their images, mini-batches per epoch, epochs
CONV = "[convolutional]\nbatch_normalize={}\nfilters={}\nsize={}\nstride={}\npad=1\nactivation={}\n"
HEAD = CONV.format(0, 12, 1, 1, "linear") + "[yolo]\nmask={}\nanchors=9,9, 20,20, 30,16, 40,50\nclasses=1\nnum=4\n"
BODY = [*[CONV.format(1, 6, 3, 2, "leaky")] * 5, HEAD.format("2,3"), "[route]\nlayers=3\n", HEAD.format("0,1")]
SMALL = parse_cfg("[net]\nwidth=64\nheight=64\nmax_batches=6\n" + "".join(BODY), "harbour.cfg")


# --- Darknet itself ---


def darknet_batch(step):
    """A mini-batch of the recipe as our networks take it."""
    y_true = np.full((recipe.BATCH, recipe.MAX_BOXES, 5), -1, "float32")
    for row, found in zip(y_true, recipe.truths_of(step), strict=True):
        row[: len(found)] = found
    return recipe.images_of(step).transpose(0, 2, 3, 1), y_true


def test_trains_as_darknet(tmp_path):
    """Losses, learning rates, IoUs and weights over six updates, two mini-batches each; see golden/darknet_training.md."""
    golden = np.load(GOLDEN / "darknet_training.npz")
    cfg = parse_cfg(recipe.cfg_text(), "tiny.cfg")
    recipe.write_weights(tmp_path / "first.weights")
    network = builder.build_from_cfg(cfg)
    assert keras_weights.load_weights(network, tmp_path / "first.weights") == (9, 0)
    net = {name: cfg.net[name] for name in ("learning_rate", "burn_in", "momentum", "decay", "subdivisions")}
    rate = DarknetSchedule(net["learning_rate"], net["burn_in"], recipe.STEPS, recipe.SCALES, net["subdivisions"])
    model = Detector(network, build_loss(cfg, "pjreddie"))
    model.compile(
        DarknetSGD(rate, net["momentum"], net["decay"], gradient_accumulation_steps=net["subdivisions"]),
        run_eagerly=True,
    )
    callback = log_callback.TrainLog(tmp_path, cfg, batch_size=cfg.net["batch"])
    steps = recipe.ITERATIONS * recipe.SUBDIVISIONS
    source = {"run_dir": tmp_path, "epochs": 1, "steps_per_epoch": steps, "callbacks": [callback]}
    training.fit(model, lambda step: training.prefetch(darknet_batch, step), **source)

    iterations, regions = logs.parse_log(tmp_path / "train.log")
    np.testing.assert_allclose(iterations["loss"], golden["loss"], rtol=3e-6, atol=1e-6)
    np.testing.assert_allclose(iterations["rate"], golden["rate"], atol=6e-7)  # six digits are printed
    assert iterations["images"].tolist() == [4, 8, 12, 16, 20, 24]
    head, iou, _, _, _, count = golden["regions"].reshape(-1, 6).T  # also class, obj and no obj
    assert head.tolist() == regions["head"].tolist()
    assert count.tolist() == regions["count"].tolist() and 0 in count
    np.testing.assert_allclose(regions["iou"], iou, atol=2e-6)
    found, values = keras_weights.read_file(tmp_path / "backup" / "tiny_final.weights")
    assert found == golden["seen"][0] == 24
    np.testing.assert_allclose(values, golden["weights"], atol=1e-6)
    first = keras_weights.read_file(tmp_path / "first.weights")[1]
    assert np.abs(first - values).max() > 0.1  # so that the line above says something


def test_the_recipe_meets_what_matters():
    """Ignored slots and truths in one slot, else the golden numbers would not show how they are treated."""
    cfg = parse_cfg(recipe.cfg_text())
    network, (images, y_true) = builder.build_from_cfg(cfg), darknet_batch(2)
    heads = builder.heads(network, images)
    used = build_loss(cfg, "pjreddie")
    other = [
        build_loss(cfg, "pjreddie", ignore_thresh=1.0),
        build_loss(cfg, "alexeyab", iou_normalizer=1.0, ignore_thresh=1.0),
    ]
    ours, strict, adding = (loss.report(y_true, heads) for loss in (used, *other))
    assert (strict - ours)[:, 4].max() > 0.01  # ignored slots
    assert (np.abs(adding - strict)[:, 5]).max() > 0.01  # truths in one slot


# --- lines, backups, kills ---


def batch_of(step):
    rng = np.random.default_rng([step, 3])
    y_true = np.full((MINI, 3, 5), -1, "float32")
    y_true[:, 0] = (0.5, 0.4, 0.3, 0.5, 0)
    return rng.random((MINI, 64, 64, 3), "float32"), y_true


class Crash(keras.callbacks.Callback):
    """Stop the process's work after so many steps of this run, before `fit` can save anything."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise ConnectionError("crash")


def run(folder, *, crash=None, accumulate=SUBDIVISIONS, optimizer=None, every=2, **options):
    keras.utils.set_random_seed(4)
    model = Detector(builder.build_from_cfg(SMALL), build_loss(SMALL, "alexeyab"))
    extra = {"gradient_accumulation_steps": accumulate} if accumulate > 1 else {}
    model.compile(optimizer or DarknetSGD(DarknetSchedule(1e-3, 4, subdivisions=accumulate), **extra), run_eagerly=True)
    callbacks = [log_callback.TrainLog(folder, SMALL, batch_size=MINI * accumulate, every=every)]
    callbacks += [Crash(crash)] if crash else []
    source = {"run_dir": folder, "epochs": EPOCHS, "steps_per_epoch": STEPS, "checkpoint_every": 1} | options
    training.fit(model, lambda step: training.prefetch(batch_of, step), callbacks=callbacks, **source)
    return model


def lines_of(folder):
    """Lines without the times."""
    text = (folder / "train.log").read_text()
    return re.sub(r"\S+ seconds|\S+ hours left", "", text).splitlines()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder)


def test_lines(undisturbed):
    folder, _ = undisturbed
    iterations, regions = logs.parse_log(folder / "train.log")
    assert len(lines_of(folder)) == EPOCHS * STEPS * 2 + 6
    assert iterations["iteration"].tolist() == [1, 2, 3, 4, 5, 6] and iterations["images"].tolist() == [
        4,
        8,
        12,
        16,
        20,
        24,
    ]
    np.testing.assert_allclose(iterations["rate"], [4e-6, 6.3e-5, 3.16e-4, 1e-3, 1e-3, 1e-3], atol=6e-7)
    assert regions["head"].tolist() == [head.index for head in SMALL.yolo] * (EPOCHS * STEPS)
    mean = regions.groupby("iteration")["total_loss"].mean()
    np.testing.assert_allclose(iterations["loss"], mean, atol=2e-6)
    average = [iterations["loss"][0]]
    for loss in iterations["loss"][1:]:
        average.append(0.9 * average[-1] + 0.1 * loss)
    np.testing.assert_allclose(iterations["avg_loss"], average, atol=5e-6)
    assert (iterations["seconds"] > 0).all()
    text = (folder / "train.log").read_text()
    assert "v3 (mse loss, Normalizer: (iou: 0.75, obj: 1.00, cls: 1.00) Region 6 Avg (IOU: " in text
    assert text.splitlines()[-1].endswith(" 24 images, 0.000000 hours left")


def test_backups(undisturbed):
    folder, model = undisturbed
    assert sorted(path.name for path in (folder / "backup").iterdir()) == [
        "harbour_final.weights",
        "harbour_last.weights",
    ]
    fresh = builder.build_from_cfg(SMALL)
    assert keras_weights.load_weights(fresh, folder / "backup" / "harbour_final.weights") == (7, 24)
    for one, other in zip(fresh.variables, model.network.variables, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other))


@pytest.mark.parametrize(
    "crash, save_every",
    [(5, 1), (7, 12), (11, 4), (12, 1)],
)
def test_killed_and_gone_on(undisturbed, tmp_path, crash, save_every):
    """Inside an update, at its end, at an epoch's end, states every step or seldom: the lines are those of a whole run."""
    with pytest.raises(ConnectionError):
        run(tmp_path, crash=crash, checkpoint_every=save_every)
    with (tmp_path / "train.log").open("a") as file:
        file.write(" 999: 1.000000, 1.0000")  # a torn line
    run(tmp_path, checkpoint_every=save_every)
    assert lines_of(tmp_path) == lines_of(undisturbed[0])
    for name in ("last", "final"):
        contents = [
            (folder / "backup" / f"harbour_{name}.weights").read_bytes() for folder in (tmp_path, undisturbed[0])
        ]
        assert contents[0] == contents[1]


def test_more_epochs_later(undisturbed, tmp_path):
    run(tmp_path, epochs=1)
    assert keras_weights.read_file(tmp_path / "backup" / "harbour_final.weights")[0] == 12
    run(tmp_path)
    assert lines_of(tmp_path) == lines_of(undisturbed[0])
    assert keras_weights.read_file(tmp_path / "backup" / "harbour_final.weights")[0] == 24


def values_of(network):
    return np.concatenate(
        [keras.ops.convert_to_numpy(v).ravel() for v in network.variables if v.path.endswith("kernel")]
    )


def test_final_weights_are_the_moving_averages(tmp_path):
    """And the states that `fit` saves still hold the weights themselves."""
    model = run(tmp_path, accumulate=1, epochs=1, optimizer=keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.9))
    fresh = builder.build_from_cfg(SMALL)
    keras_weights.load_weights(fresh, tmp_path / "backup" / "harbour_final.weights")
    averages = model.optimizer._model_variables_moving_average
    for one, average in zip(fresh.trainable_variables, averages, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(average))
    raw = values_of(fresh)
    keras_weights.load_weights(fresh, tmp_path / "backup" / "harbour_last.weights")
    assert np.abs(values_of(fresh) - raw).max() > 1e-3
    state = checkpoints.states(tmp_path / "checkpoints")[0]
    saved = checkpoints.read_arrays(state, model, ["model"])["model"]
    names = [variable.path for variable in model.variables]
    kernels = [array.ravel() for name, array in zip(names, saved, strict=True) if name.endswith("kernel")]
    np.testing.assert_array_equal(np.concatenate(kernels), values_of(fresh))


@pytest.mark.parametrize("left, expected", [(0, [4, 5, 6]), (-20, [1, 2, 3, 4, 5, 6])])
def test_a_log_that_lost_lines(tmp_path, left, expected):
    """As after a power cut: gone, or torn inside a Region line of the update in work. Training goes on all the same."""
    with pytest.raises(ConnectionError):
        run(tmp_path, crash=8)
    path = tmp_path / "train.log"
    regions = [at.end() for at in re.finditer("Region.*\n", path.read_text())]
    path.write_text(path.read_text()[: regions[13] + left] if left else "")  # the second line of step 7
    run(tmp_path)
    iterations, regions = logs.parse_log(path)
    assert iterations["iteration"].tolist() == expected
    assert regions["total_loss"].notna().all() and len(regions) % 2 == (1 if left else 0)
