"""A network with YOLO's loss as a model that Keras trains."""

from helpers import runtime

runtime.quiet_start()

import keras
import numpy as np
import pytest

from helpers import training
from helpers.boat_detection import losses
from helpers.boat_detection.formats.darknet import builder, networks
from helpers.boat_detection.formats.darknet.cfg_files import parse_cfg
from helpers.boat_detection.formats.darknet.optimizers import DarknetSGD
from helpers.boat_detection.model import Detector, RegionReport, build_loss

ANCHORS = [(10, 14), (20, 24), (34, 22), (40, 40), (60, 36), (80, 70)]
MASKS = [(3, 4, 5), (0, 1, 2)]


def small_network(classes=2, *, norm=False):
    """Two heads at strides 32 and 16 after three convolutions."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    x = inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(8, 8, 8, activation="relu")(x)
    x = layers.BatchNormalization()(x) if norm else x
    fine = layers.Conv2D(16, 2, 2, activation="relu")(x)
    coarse = layers.Conv2D(16, 2, 2, activation="relu")(fine)
    heads = [layers.Conv2D(3 * (5 + classes), 1, dtype="float32")(x) for x in (coarse, fine)]
    return keras.Model(inputs, heads)


def build(optimizer=None, *, classes=2, norm=False, graph=False, **options):
    model = Detector(small_network(classes, norm=norm), losses.YoloLoss(ANCHORS, MASKS, classes, **options))
    eager = not graph and keras.backend.backend() == "tensorflow"  # tracing takes seconds
    model.compile(optimizer or keras.optimizers.SGD(0.01), run_eagerly=eager)
    return model


def make_batch(step, *, size=64, images=4, classes=2):
    rng = np.random.default_rng([step, 5])
    y_true = np.full((images, 6, 5), -1, "float32")
    count = 3
    boxes = np.column_stack([rng.uniform(0.2, 0.8, (images * count, 2)), rng.uniform(0.1, 0.6, (images * count, 2))])
    y_true[:, :count, :4] = boxes.reshape(images, count, 4)
    y_true[:, :count, 4] = rng.integers(0, classes, (images, count))
    return rng.random((images, size, size, 3), "float32"), y_true


def values(variables):
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def test_one_step_descends_the_loss_and_counts():
    model = build()
    images, y_true = make_batch(0)
    before = [head.copy() for head in map(keras.ops.convert_to_numpy, model(images))]
    logs = model.train_on_batch(images, y_true, return_dict=True)
    rows = model.yolo_loss.report(y_true, before)
    assert logs["loss"] == pytest.approx(float(model.yolo_loss(y_true, before)), rel=1e-5)
    assert logs["darknet_loss"] == pytest.approx(rows[:, 6].mean(), rel=1e-5)
    assert logs["iou"] == pytest.approx((rows[:, 0] * rows[:, 1]).sum() / 12, rel=1e-4)
    printed = losses.report_rows(values([model.region_report.step])[0], dialect="alexeyab")
    np.testing.assert_allclose(printed, rows, rtol=1e-4)
    after = model.yolo_loss(y_true, model(images))
    assert float(after) < logs["loss"] and int(model.seen) == 4
    assert model.evaluate(images, y_true, verbose=0, return_dict=True)["loss"] == pytest.approx(float(after), rel=1e-4)
    assert int(model.seen) == 4  # only training counts


def test_compiled_steps():
    """One head, whose network gives a tensor and no list; its loss falls in a graph as it does above."""
    keras.utils.set_random_seed(2)
    network = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(21, 32, 32)])
    model = Detector(network, losses.YoloLoss(ANCHORS, [[1, 2, 3]], 2))
    model.compile(keras.optimizers.SGD(1e-3))
    batch = make_batch(0)
    logs = [model.train_on_batch(*batch, return_dict=True) for _ in range(2)]
    assert 0 < logs[1]["loss"] < logs[0]["loss"]
    assert logs[1]["darknet_loss"] < logs[0]["darknet_loss"] and int(model.seen) == 8


def test_the_report_of_an_epoch_sums_over_its_steps():
    report = RegionReport(2)
    loss = losses.YoloLoss(ANCHORS, MASKS, 2)
    network, rows = small_network(), []
    for step in range(3):
        images, y_true = make_batch(step)
        report.update_state(loss.call_with_sums(y_true, network(images))[1])
        rows.append(loss.report(y_true, network(images)))
    rows = np.array(rows)
    result = {key: float(value) for key, value in report.result().items()}
    expected = {"darknet_loss": rows[..., 6].mean(), "iou": (rows[..., 0] * rows[..., 1]).sum() / 36}
    assert result == pytest.approx(expected, rel=1e-4)
    report.reset_state()
    assert {key: float(value) for key, value in report.result().items()} == {"darknet_loss": 0, "iou": 0}
    assert RegionReport.from_config(RegionReport(3, name="rows").get_config()).num_heads == 3


def test_accumulated_mini_batches_equal_one_batch():
    images, y_true = make_batch(0, images=8)
    whole, parts = build(DarknetSGD(0.01)), build(DarknetSGD(0.01, gradient_accumulation_steps=4))
    whole.train_on_batch(images, y_true)
    for start in range(0, 8, 2):
        parts.train_on_batch(images[start : start + 2], y_true[start : start + 2])
    for one, other in zip(values(whole.trainable_variables), values(parts.trainable_variables), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_regularisers_of_the_network_count():
    network = small_network()
    network.layers[1].kernel.regularizer = keras.regularizers.L2(0.5)
    plain, model = build(), Detector(network, losses.YoloLoss(ANCHORS, MASKS, 2))
    model.compile("sgd", run_eagerly=True)
    extra = 0.5 * float(np.square(values([network.layers[1].kernel])[0]).sum())
    one, other = (m.test_on_batch(*make_batch(0), return_dict=True)["loss"] for m in (plain, model))
    assert extra > 0.1 and other - one == pytest.approx(extra, rel=1e-3)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    with runtime.precision(policy):
        model = build()
    assert model.layers[0].layers[1].compute_dtype != "float32"
    assert [head.dtype for head in model(make_batch(0)[0])] == [keras.ops.ones((), "float32").dtype] * 2
    batch = make_batch(0)
    losses_seen = [model.train_on_batch(*batch)[0] for _ in range(12)]  # in float16 the first gradients overflow
    assert np.isfinite(losses_seen).all() and losses_seen[-1] < losses_seen[0]


def test_save_and_load(tmp_path):
    model = build(norm=True, dialect="pjreddie", ignore_thresh=0.4)
    model.train_on_batch(*make_batch(0))
    images, _ = make_batch(1)
    model.save(tmp_path / "boats.keras")
    loaded = keras.saving.load_model(tmp_path / "boats.keras")
    assert loaded.yolo_loss.get_config() == model.yolo_loss.get_config() and int(loaded.seen) == 4
    assert loaded.name == model.name and loaded.input_shape == (None, None, None, 3)
    for one, other in zip(model(images), loaded(images), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    model.save_weights(tmp_path / "boats.weights.h5")
    fresh = build(norm=True)
    fresh.load_weights(tmp_path / "boats.weights.h5")
    for one, other in zip(values(model.variables), values(fresh.variables), strict=True):
        np.testing.assert_array_equal(one, other)


def test_images_of_any_size():
    """One trained function serves every size, square or not."""
    model = build(graph=True)
    for step, size in enumerate([(64, 64), (96, 64), (32, 128)]):
        images, y_true = make_batch(step, size=64)
        images = np.resize(images, (4, *size, 3))
        expected = float(model.yolo_loss(y_true, model(images)))
        model.reset_metrics()
        assert model.train_on_batch(images, y_true)[0] == pytest.approx(expected, rel=1e-4)


def test_fit_goes_on_where_it_was_stopped(tmp_path):
    """Also inside an epoch, with running metrics, moving averages and half-accumulated gradients."""

    class Crash(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.seen) == 4 * 8:
                raise ConnectionError("crash")

    def run(folder, callbacks=()):
        options = {"gradient_accumulation_steps": 2, "use_ema": True, "ema_momentum": 0.5}
        model = build(DarknetSGD(0.01, **options), norm=True)
        source = {"run_dir": tmp_path / folder, "epochs": 2, "steps_per_epoch": 6, "checkpoint_every": 1}
        return model, training.fit(
            model, lambda step: training.prefetch(make_batch, step), callbacks=callbacks, **source
        )

    whole, log = run("whole")
    with pytest.raises(ConnectionError):
        run("broken", [Crash()])
    again, log_again = run("broken")
    for one, other in zip(values(whole.variables), values(again.variables), strict=True):
        np.testing.assert_array_equal(one, other)
    columns = ["epoch", "step", "loss", "darknet_loss", "iou"]
    assert log[columns].equals(log_again[columns]) and int(again.seen) == 48


def test_the_loss_of_a_cfg():
    yolo = {"ignore_thresh": 0.6, "iou_normalizer": 0.07, "scale_x_y": 1.05}
    cfg = parse_cfg(networks.yolov3_tiny_cfg(4, width=0.125, **yolo))
    config = build_loss(cfg, "alexeyab").get_config()
    expected = {
        **yolo,
        "scale_x_y": [1.05, 1.05],
        "masks": [[3, 4, 5], [0, 1, 2]],
        "num_classes": 4,
        "dialect": "alexeyab",
    }
    assert {key: config[key] for key in expected} == expected and config["strides"] == [32.0, 16.0]
    assert config["anchors"][1] == [23.0, 27.0]
    plain = parse_cfg(networks.yolov3_tiny_cfg(4, width=0.125))
    assert [build_loss(plain, name).iou_normalizer for name in losses.IOU_NORMALIZERS] == [0.75, 1.0]
    assert build_loss(cfg, "alexeyab", coordinates="ciou", iou_normalizer=2.0).iou_normalizer == 2.0


def draw_boats(count=8, size=96):
    """One or two bright hulls on a gradient each, and their boxes."""
    rng = np.random.default_rng(3)
    images = np.repeat(np.linspace(0.2, 0.5, size, dtype="float32")[None, :, None, None], count, axis=0)
    images = np.broadcast_to(images, (count, size, size, 3)).copy()
    y_true = np.full((count, 4, 5), -1, "float32")
    for b in range(count):
        for k in range(1 + b % 2):
            width, height = rng.integers(24, 52), rng.integers(18, 40)
            x, y = rng.integers(0, size - width), (k * size // 2) + rng.integers(0, size // 2 - height // 2)
            y = min(y, size - height)
            images[b, y : y + height, x : x + width] = rng.uniform(0.6, 1.0, 3)
            y_true[b, k] = ((x + width / 2) / size, (y + height / 2) / size, width / size, height / size, 0)
    return images, y_true


def test_a_narrow_tiny_network_learns_eight_drawings():
    keras.utils.set_random_seed(0)
    cfg = parse_cfg(networks.yolov3_tiny_cfg(1, width=0.125, size=96, anchors=ANCHORS))
    model = Detector(builder.build_from_cfg(cfg, momentum=0.9), build_loss(cfg, "alexeyab"))
    model.compile(keras.optimizers.Adam(5e-3))
    images, y_true = draw_boats()
    first = model.train_on_batch(images, y_true, return_dict=True)
    for _ in range(120):
        model.reset_metrics()
        last = model.train_on_batch(images, y_true, return_dict=True)
    assert last["iou"] > 0.7 > 0.5 > first["iou"] and last["darknet_loss"] < 0.1 * first["darknet_loss"]
    boxes, objectness, _ = builder.decode(builder.heads(model.network, images), cfg, 96)
    centre = (boxes[0, :, :2] + boxes[0, :, 2:])[int(np.argmax(objectness[0]))] / 2
    np.testing.assert_allclose(centre, y_true[0, 0, :2], atol=0.1)
