"""YoloLoss against Darknet's deltas in plain loops, and against a training by Darknet itself, on TensorFlow and on JAX."""

from helpers import runtime

runtime.quiet_start()

import jax_twin
import keras
import numpy as np
import pytest

from helpers.boat_detection import losses

CLASSES, WIDTH, HEIGHT = 3, 96, 64
ANCHORS = [(10, 14), (23, 27), (37, 18), (50, 30), (40, 55), (80, 60)]
MASKS = [(3, 4, 5), (0, 1, 2)]  # strides 32 and 16
GRIDS = [(2, 3), (4, 6)]  # rows, columns
IGNORED, AREA, FREE = "ignored", "area", "free"


# --- Darknet, from its description: loops over numbers, nothing shared with the package ---


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def overlap(a, b):
    width = min(a[0] + a[2] / 2, b[0] + b[2] / 2) - max(a[0] - a[2] / 2, b[0] - b[2] / 2)
    height = min(a[1] + a[3] / 2, b[1] + b[3] / 2) - max(a[1] - a[3] / 2, b[1] - b[3] / 2)
    return width * height if width > 0 and height > 0 else 0.0


def iou(a, b):
    common = overlap(a, b)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def box_of(x, i, j, anchor, grid, stretch):
    centre = [stretch * sigmoid(x[k]) - (stretch - 1) / 2 for k in (0, 1)]
    return (
        (centre[0] + i) / grid[1], (centre[1] + j) / grid[0], np.exp(x[2]) * anchor[0] / WIDTH, np.exp(x[3]) * anchor[1] / HEIGHT
    )  # fmt: skip


def best_anchor(truth):
    fits = [iou((0, 0, w / WIDTH, h / HEIGHT), (0, 0, truth[2], truth[3])) for w, h in ANCHORS]
    return fits.index(max(fits))


def darknet(y_true, heads, *, dialect, ignore_thresh, k, stretch=(1.0, 1.0)):
    """Deltas of each head, (B, h, w, 3, 5 + C) float64, and the rows that it prints."""
    found = []
    for head, mask, grid, bend in zip(heads, MASKS, GRIDS, stretch, strict=True):
        x = head.astype("float64").reshape(len(head), *grid, 3, 5 + CLASSES)
        delta, ious, objects = np.zeros_like(x), [], []
        for b, j, i, n in np.ndindex(*x.shape[:4]):
            box, obj = box_of(x[b, j, i, n], i, j, ANCHORS[mask[n]], grid, bend), sigmoid(x[b, j, i, n, 4])
            truths = [t for t in y_true[b] if t[4] >= 0]
            best = max((iou(box, t) for t in truths), default=0)
            likely = dialect == "pjreddie" or max(sigmoid(x[b, j, i, n, 5:])) > 0.25
            inside = any(overlap(box, t) > 0.5 * box[2] * box[3] for t in y_true[b] if t[4] == -2)
            delta[b, j, i, n, 4] = 0 if (best > ignore_thresh and likely) or inside else -obj
        for b, truth in [(image, t) for image in range(len(x)) for t in y_true[image] if t[4] >= 0]:
            if (anchor := best_anchor(truth)) not in mask:
                continue
            n, (w, h) = mask.index(anchor), ANCHORS[anchor]
            i, j = min(int(truth[0] * grid[1]), grid[1] - 1), min(int(truth[1] * grid[0]), grid[0] - 1)
            slot, d = x[b, j, i, n], delta[b, j, i, n]
            target = [
                truth[0] * grid[1] - i,
                truth[1] * grid[0] - j,
                np.log(truth[2] * WIDTH / w),
                np.log(truth[3] * HEIGHT / h),
            ]
            guess = [*(bend * sigmoid(slot[:2]) - (bend - 1) / 2), *slot[2:4]]
            step = (2 - truth[2] * truth[3]) * k * (np.array(target) - guess)
            d[:4] = d[:4] + step if dialect == "alexeyab" else step
            ious.append(iou(box_of(slot, i, j, ANCHORS[anchor], grid, bend), truth))
            objects.append(sigmoid(slot[4]))
            d[4] = 1 - sigmoid(slot[4])
            if not d[5:].any():
                d[5:] = -sigmoid(slot[5:])
            d[5 + int(truth[4])] = 1 - sigmoid(slot[5 + int(truth[4])])
        found.append((delta, printed(delta, ious, objects, sigmoid(x[..., 4]).mean(), dialect)))
    return [delta for delta, _ in found], np.array([row for _, row in found])


def printed(delta, ious, objects, no_obj, dialect):
    per_image = 1 / len(delta)
    class_loss, iou_loss = (delta[..., 4:] ** 2).sum() * per_image, (delta[..., :4] ** 2).sum() * per_image
    empty = [0, 1, 0] if dialect == "alexeyab" else [np.nan, 0, np.nan]
    means = [np.mean(ious), len(ious), np.mean(objects)] if ious else empty
    return [*means, no_obj, class_loss, iou_loss, class_loss + iou_loss]


# --- the cases ---


def aim(heads, head, b, truth, *, anchor, classes=4.0):
    """Set a slot so that it predicts `truth`, and its class logits."""
    grid, (w, h) = GRIDS[head], ANCHORS[anchor]
    i, j = int(truth[0] * grid[1]), int(truth[1] * grid[0])
    x, y = truth[0] * grid[1] - i, truth[1] * grid[0] - j
    slot = heads[head].reshape(len(heads[head]), *grid, 3, 5 + CLASSES)[b, j, i, MASKS[head].index(anchor)]
    slot[:4] = np.log(x / (1 - x)), np.log(y / (1 - y)), np.log(truth[2] * WIDTH / w), np.log(truth[3] * HEIGHT / h)
    slot[5:] = classes
    return head, b, j, i, MASKS[head].index(anchor)


def make(rows, *, images=2, seed=0):
    """y_true with `rows` in image 0, some boxes in the others, and random heads."""
    rng = np.random.default_rng(seed)
    y_true = np.full((images, 7, 5), -1.0)
    y_true[0, : len(rows)] = np.array(rows).reshape(-1, 5)
    if rows:
        for b in range(1, images):
            count = 4
            boxes = np.column_stack([rng.uniform(0.05, 0.95, (count, 2)), rng.uniform(0.1, 0.9, (count, 2))])
            y_true[b, :count] = np.column_stack([boxes, rng.integers(0, CLASSES, count)])
    heads = [rng.normal(size=(images, *grid, 3 * (5 + CLASSES))) for grid in GRIDS]
    return y_true.astype("float32"), [head.astype("float32") for head in heads]


LARGE, SMALL = (0.3, 0.6, 0.8, 0.9, 1), (0.71, 0.36, 0.11, 0.2, 2)  # belong to anchors 5 and 0
TWIN = (0.72, 0.37, 0.1, 0.22)
WIDE = (0.3, 0.6, 0.75, 0.95)


def case_random():
    return (*make([LARGE, SMALL, (0.5, 0.5, 0.4, 0.3, 0), (0.1, 0.9, 0.2, 0.4, 1)]), None)


def case_hit_of_another_anchor(classes, expected):
    y_true, heads = make([LARGE, SMALL])
    return y_true, heads, (aim(heads, 0, 0, LARGE, anchor=4, classes=classes), expected)


def case_hit_in_another_head():
    """The truth belongs to the fine head, the same prediction by the coarse one is ignored and not assigned."""
    y_true, heads = make([SMALL])
    return y_true, heads, (aim(heads, 0, 0, SMALL, anchor=3), IGNORED)


def case_area(share, expected):
    """A false alarm that lies by `share` of its own area inside an ignore area, which is far larger."""
    y_true, heads = make([SMALL, (0.25, 0.5, 0.5, 1.0, -2)], images=1)
    alarm = (0.5 + 0.2 * (0.5 - share), 0.55, 0.2, 0.3)
    return y_true, heads, (aim(heads, 1, 0, alarm, anchor=1, classes=-4.0), expected)


CASES = {
    "random": case_random,
    "ignored": lambda: case_hit_of_another_anchor(4.0, IGNORED),
    "ignored if likely": lambda: case_hit_of_another_anchor(-4.0, {"alexeyab": FREE, "pjreddie": IGNORED}),
    "ignored in another head": case_hit_in_another_head,
    "same slot, same class": lambda: (*make([SMALL, (*TWIN, 2), LARGE]), None),
    "same slot, other class": lambda: (*make([SMALL, (*TWIN, 0), LARGE, (*WIDE, 0)]), None),
    "three in a slot": lambda: (*make([(*TWIN, 2), SMALL, (*TWIN, 1), LARGE]), None),
    "right and lower edge": lambda: (
        *make([(1.0, 0.3, 0.1, 0.2, 0), (0.4, 1.0, 0.8, 0.9, 1), (1.0, 1.0, 0.3, 0.3, 2)]),
        None,
    ),
    "inside an ignore area": lambda: case_area(0.6, AREA),
    "half outside an ignore area": lambda: case_area(0.4, FREE),
    "an object inside an ignore area": lambda: (*make([(0.7, 0.35, 0.5, 0.5, -2), SMALL]), None),
    "one empty image": lambda: (*make([], images=1), None),
    "two empty images": lambda: (*make([]), None),
}


def losses_and_gradients(loss, y_true, heads):
    if keras.backend.backend() == "jax":
        import jax

        value, gradients = jax.jit(jax.value_and_grad(lambda heads: loss(y_true, heads)))(
            list(map(jax.numpy.array, heads))
        )
        return float(value), [np.asarray(gradient) for gradient in gradients]
    import tensorflow as tf

    tensors = [tf.constant(head) for head in heads]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = loss(y_true, tensors)
    return float(value), [gradient.numpy() for gradient in tape.gradient(value, tensors)]


@pytest.mark.parametrize("dialect", ["alexeyab", "pjreddie"])
@pytest.mark.parametrize("name", CASES)
def test_deltas_are_minus_the_gradient(name, dialect):
    y_true, heads, slot = CASES[name]()
    options = {"ignore_thresh": 0.55}
    loss = losses.YoloLoss(ANCHORS, MASKS, CLASSES, dialect, **options)
    deltas, rows = darknet(y_true, heads, dialect=dialect, k={"alexeyab": 0.75, "pjreddie": 1.0}[dialect], **options)
    if slot:  # the case is what its name says
        (head, *place), expected = slot
        expected = expected[dialect] if isinstance(expected, dict) else expected
        assert (deltas[head][(*place, 4)] == 0) == (expected != FREE)
        assert not deltas[head][tuple(place)][5:].any()
    _, gradients = losses_and_gradients(loss, y_true, heads)
    for delta, gradient in zip(deltas, gradients, strict=True):
        np.testing.assert_allclose(-gradient.reshape(delta.shape) * len(delta), delta, rtol=2e-4, atol=2e-6)
    if keras.backend.backend() == "tensorflow":  # the other compiles operation by operation, for half a minute
        np.testing.assert_allclose(loss.report(y_true, heads), rows, rtol=2e-5, atol=1e-6)


def test_the_modes_differ_where_truths_meet():
    """Else the cases above would not show which mode is which."""
    y_true, heads, _ = CASES["same slot, other class"]()
    both = [darknet(y_true, heads, dialect=dialect, ignore_thresh=0.7, k=1.0)[1] for dialect in losses.IOU_NORMALIZERS]
    assert np.abs(both[0] - both[1])[:, 5].min() > 0.01


def test_a_cell_by_hand():
    """One cell, one anchor that fits exactly, all logits 0: every term can be written down."""
    loss = losses.YoloLoss([(32, 32)], [(0,)], 1, iou_normalizer=0.5)
    y_true = np.array([[[0.25, 0.75, 1.0, 1.0, 0]]], "float32")
    value = float(loss(y_true, [np.zeros((1, 1, 1, 6), "float32")]))
    assert value == pytest.approx(0.5 * 1.0 * 2 * np.log(2) + 2 * np.log(2), rel=1e-6)
    overlapping = 0.75 * 0.75 / (2 - 0.75 * 0.75)
    squares = [2 * 0.5**2, 2 * (0.5 * 0.25) ** 2]
    row = [overlapping, 1, 0.5, 0.5, *squares, sum(squares)]
    np.testing.assert_allclose(loss.report(y_true, [np.zeros((1, 1, 1, 6))]), [row], rtol=1e-6)


def test_average_over_images_only():
    y_true, heads, _ = case_random()
    loss = losses.YoloLoss(ANCHORS, MASKS, CLASSES)
    each = [float(loss(y_true[b : b + 1], [head[b : b + 1] for head in heads])) for b in range(2)]
    assert float(loss(y_true, heads)) == pytest.approx(np.mean(each), rel=1e-5)
    np.testing.assert_allclose(loss.call(y_true, heads), each, rtol=1e-5)


def test_the_order_of_heads_and_their_strides():
    y_true, heads, _ = case_random()
    loss = losses.YoloLoss(ANCHORS, MASKS, CLASSES)
    turned = losses.YoloLoss(ANCHORS, MASKS[::-1], CLASSES)
    given = losses.YoloLoss(ANCHORS, MASKS, CLASSES, strides=(32, 16))
    doubled = losses.YoloLoss(np.array(ANCHORS) * 2, MASKS, CLASSES, strides=(64, 32))
    values = [float(loss(y_true, heads)) for loss in (loss, given, doubled)] + [float(turned(y_true, heads[::-1]))]
    assert values == pytest.approx(values[:1] * 4, rel=1e-5)


def test_stretched_centres():
    y_true, heads, _ = case_random()
    stretch = (1.2, 1.05)
    loss = losses.YoloLoss(ANCHORS, MASKS, CLASSES, scale_x_y=stretch, ignore_thresh=0.4)
    deltas, rows = darknet(y_true, heads, dialect="alexeyab", ignore_thresh=0.4, k=0.75, stretch=stretch)
    _, gradients = losses_and_gradients(loss, y_true, heads)
    for delta, gradient in zip(deltas, gradients, strict=True):
        np.testing.assert_allclose(-gradient.reshape(delta.shape) * len(delta), delta, rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(loss.report(y_true, heads), rows, rtol=2e-5, atol=1e-6)


def ciou(a, b):
    """Zheng et al., "Distance-IoU Loss", 2020, equations 7 to 11, on pixels."""
    a, b = ([box[0] * WIDTH, box[1] * HEIGHT, box[2] * WIDTH, box[3] * HEIGHT] for box in (a, b))
    hull = [
        max(a[k] + a[k + 2] / 2, b[k] + b[k + 2] / 2) - min(a[k] - a[k + 2] / 2, b[k] - b[k + 2] / 2) for k in (0, 1)
    ]
    v = 4 / np.pi**2 * (np.arctan(b[2] / b[3]) - np.arctan(a[2] / a[3])) ** 2
    apart = ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) / (hull[0] ** 2 + hull[1] ** 2)
    return iou(a, b) - apart - v * v / (1 - iou(a, b) + v)


def test_ciou():
    y_true, heads = make([LARGE], images=1)
    loss = losses.YoloLoss(ANCHORS, MASKS, CLASSES, coordinates="ciou", iou_normalizer=0.5)
    other = losses.YoloLoss(ANCHORS, MASKS, CLASSES, iou_normalizer=1e-9)
    i, j = int(LARGE[0] * 3), int(LARGE[1] * 2)
    predicted = box_of(heads[0].reshape(2, 3, 3, -1)[j, i, 2].astype("float64"), i, j, ANCHORS[5], (2, 3), 1.0)
    expected = 0.5 * (2 - LARGE[2] * LARGE[3]) * (1 - ciou(predicted, LARGE))
    assert float(loss(y_true, heads)) - float(other(y_true, heads)) == pytest.approx(expected, rel=1e-4)
    assert loss.report(y_true, heads)[0, 5] == pytest.approx(expected, rel=1e-4)
    _, gradients = losses_and_gradients(loss, y_true, heads)
    step = 1e-2 / np.abs(gradients[0]).max()
    nearer = [head - step * gradient for head, gradient in zip(heads, gradients, strict=True)]
    assert np.isfinite(gradients[0]).all() and float(loss(y_true, nearer)) < float(loss(y_true, heads))


def test_padding_changes_nothing():
    y_true, heads, _ = case_random()
    loss = losses.YoloLoss(ANCHORS, MASKS, CLASSES)
    wide = np.full((2, 30, 5), -1, "float32")
    wide[:, ::4][:, :7] = y_true  # with gaps between the rows
    assert float(loss(wide, heads)) == pytest.approx(float(loss(y_true, heads)), rel=1e-6)
    useless = wide.copy()
    useless[:, 1::4] = (0.5, 0.5, 0.3, 0.3, CLASSES)  # a class that the network does not have
    useless[:, 2::4] = (0.5, 0.5, 0.0, 0.3, 0)  # a box without a width
    assert float(loss(useless, heads)) == pytest.approx(float(loss(y_true, heads)), rel=1e-6)


def test_untrained_extremes_stay_finite():
    y_true, heads, _ = case_random()
    for value in (-1e3, 1e3):
        for coordinates in losses.COORDINATES:
            loss = losses.YoloLoss(ANCHORS, MASKS, CLASSES, coordinates=coordinates)
            result, gradients = losses_and_gradients(loss, y_true, [np.full_like(head, value) for head in heads])
            assert np.isfinite(result) and all(np.isfinite(gradient).all() for gradient in gradients)


def test_half_precision_heads_are_computed_in_float32():
    y_true, heads, _ = case_random()
    loss = losses.YoloLoss(ANCHORS, MASKS, CLASSES)
    half = [head.astype("float16") for head in heads]
    exact = float(loss(y_true, [head.astype("float32") for head in half]))
    assert float(loss(y_true, half)) == pytest.approx(exact, rel=1e-6)
    np.testing.assert_allclose(loss.report(y_true, half), loss.report(y_true, [h.astype("float32") for h in half]))


def test_config_round_trip():
    options = {
        "anchors": [[1.0, 2.0], [3.0, 4.0]], "masks": [[1], [0]], "num_classes": 5, "dialect": "pjreddie", "iou_normalizer": 0.07,
        "ignore_thresh": 0.6, "coordinates": "ciou", "strides": [16.0, 8.0], "scale_x_y": [1.1, 1.2], "reduction": "sum",
        "name": "boats", "dtype": "float64",
    }  # fmt: skip
    loss = losses.YoloLoss(**options)
    assert {key: loss.get_config()[key] for key in options} == options
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config()
    assert losses.YoloLoss([1, 2, 3, 4], [[1], [0]], 5).anchors == options["anchors"]  # flat, as in a .cfg


def test_an_anchor_of_two_heads_is_trained_in_both():
    """As in Darknet, where every head looks for itself whether the best anchor of a truth is among its own."""
    rng = np.random.default_rng(3)
    masks = [(3, 4, 5), (1, 2, 3)]
    heads = [rng.normal(size=(1, *grid, 3 * (5 + CLASSES))).astype("float32") for grid in GRIDS]
    wide, high = ANCHORS[3]
    y_true = np.array([[[0.4, 0.6, wide / WIDTH, high / HEIGHT, 1]]], "float32")
    both = losses.YoloLoss(ANCHORS, masks, CLASSES)(y_true, heads)
    alone = [
        losses.YoloLoss(ANCHORS, [mask], CLASSES, strides=[stride])(y_true, [head])
        for mask, head, stride in zip(masks, heads, (32, 16), strict=True)
    ]
    assert float(both) == pytest.approx(sum(map(float, alone)), rel=1e-6)
    without = losses.YoloLoss(ANCHORS, [(0, 1, 2)], CLASSES, strides=[16])(y_true, [heads[1]])
    assert float(without) != pytest.approx(float(alone[1]), rel=1e-3)


GOOD = {"anchors": ANCHORS, "masks": MASKS, "num_classes": CLASSES}


@pytest.mark.parametrize(
    "options, words",
    [
        ({"dialect": "darknet"}, "dialect must be one of .*alexeyab.*Received: dialect='darknet'"),
        ({"coordinates": "giou"}, "coordinates must be one of .*Received: coordinates='giou'"),
        ({"masks": [(0, 1), (5, 6)]}, "indices of the 6 anchors, none twice. Received: masks"),
        ({"masks": [(0, 1), (2, 2)]}, "none twice"),
        ({"masks": []}, "none twice"),
        ({"masks": [(0, 1), ()]}, "none twice"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        losses.YoloLoss(**(GOOD | options))


@pytest.mark.parametrize(
    "change", [lambda heads: heads[:1], lambda heads: [h[..., :23] for h in heads], lambda h: [h[0][0], h[1]]]
)
def test_bad_heads(change):
    y_true, heads, _ = case_random()
    with pytest.raises(ValueError, match=r"expected 2 raw heads .* \[24, 24\] channels"):
        losses.YoloLoss(**GOOD)(y_true, change(heads))


@jax_twin.needs_jax
def test_the_same_on_jax():
    names = [
        "minus_the_gradient and other and class-alexeyab",
        "minus_the_gradient and inside and pjreddie",
        "compiled",
    ]
    assert " passed" in jax_twin.run(__file__, ["boat_losses", "boat_model"], names)
