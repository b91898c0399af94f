"""Resizing and random changes, held against pixels: a rectangle is drawn, the picture changed, the rectangle found again."""

import colorsys
import functools

import cv2
import numpy as np
import pytest

from helpers import runtime

runtime.quiet_start()

import keras

from helpers.boat_detection.augment import chance, resizing
from helpers.boat_detection.augment.chance import Augmentation

changes = functools.partial(Augmentation, dialect="alexeyab", jitter=0.3, hue=0.1, saturation=1.5, exposure=1.5)
OFF = {"hue": 0, "saturation": 1, "exposure": 1}
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]


class Fixed:
    """A generator whose every draw lies at a given share of its range, in turn; the last share is repeated."""

    def __init__(self, *shares, coin=0.9):
        self.shares, self.coin = list(shares), coin

    def uniform(self, low=0.0, high=1.0, size=None):
        if size is not None:
            return np.array([self.uniform(low, high) for _ in range(size)])
        return low + (high - low) * (self.shares.pop(0) if len(self.shares) > 1 else self.shares[0])

    def random(self):
        return self.coin


def draw(shape, corners, colour=(255, 0, 0)):
    """A grey picture with one rectangle, and its box: corners are x1, y1, x2, y2 in pixels."""
    image = np.full((*shape, 3), 90, np.uint8)
    x1, y1, x2, y2 = corners
    image[y1:y2, x1:x2] = colour
    height, width = shape
    return image, np.array([[0, (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]])


def find(image, colour=None):
    """Corners x1, y1, x2, y2 in pixels of what has a colour (None: any but grey); None if there is next to none."""
    image = image / np.maximum(image.max(axis=-1, keepdims=True), 1e-6)
    grey = image.min(axis=-1) >= 0.6
    mask = ~grey if colour is None else (np.abs(image - np.array(colour) / 255) < 0.5).all(axis=-1)
    ys, xs = np.nonzero(mask)
    return None if len(xs) < 12 else np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])


def corners_of(boxes, size):
    """(n, 4) corners in pixels of relative boxes."""
    height, width = resizing.as_pair(size)
    low, high = boxes[:, 1:3] - boxes[:, 3:5] / 2, boxes[:, 1:3] + boxes[:, 3:5] / 2
    return np.concatenate([low * (width, height), high * (width, height)], axis=1)


def place_letterbox(shape, size):
    return resizing.letterbox(np.zeros((*shape, 3), np.uint8), size)[1]


# --- resizing ---


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [  # top, left, height, width, by Darknet's integers
        ((363, 640), 416, (90, 0, 235, 416)),  # 363 * 416 // 640 = 235 (235.95)
        ((640, 441), 416, (0, 65, 416, 286)),
        ((416, 416), 416, (0, 0, 416, 416)),
        ((100, 200), (96, 160), (8, 0, 80, 160)),
        ((100, 100), (96, 160), (0, 32, 96, 96)),
        ((1, 5000), 32, (15, 0, 1, 32)),
    ],
)
def test_letterbox_uses_darknets_integers(shape, size, expected):
    image, placement = resizing.letterbox(np.full((*shape, 3), 255, np.uint8), size)
    height, width = resizing.as_pair(size)
    ys, xs = np.nonzero(image[..., 0] == 1)
    assert (ys.min(), xs.min(), ys.max() + 1 - ys.min(), xs.max() + 1 - xs.min()) == expected
    assert placement == pytest.approx(
        (expected[1] / width, expected[0] / height, expected[3] / width, expected[2] / height, False)
    )
    assert image.dtype == np.float32
    assert set(np.unique(image)) <= {np.float32(0.5), np.float32(1)}


@pytest.mark.parametrize("mode", ["letterbox", "stretch"])
@pytest.mark.parametrize(("shape", "size"), [((200, 100), 64), ((90, 160), (96, 128)), ((363, 640), 416)])
def test_boxes_go_where_keras_and_the_pixels_say(mode, shape, size):
    source = (shape[1] // 5, shape[0] // 2, shape[1] // 2, shape[0] * 9 // 10)
    image, boxes = draw(shape, source)
    result, placement = resizing.RESIZES[mode](image, size)
    ours = corners_of(placement.place(boxes), size)[0]
    assert find(result) == pytest.approx(ours, abs=1.01)
    height, width = resizing.as_pair(size)
    layer = keras.layers.Resizing(
        height, width, pad_to_aspect_ratio=mode == "letterbox", fill_value=127.5, bounding_box_format="xyxy"
    )
    inputs = {
        "images": image[None].astype(np.float32),
        "bounding_boxes": {"boxes": np.array([[source]], np.float32), "labels": np.zeros((1, 1), np.float32)},
    }
    theirs = layer(inputs)
    assert ours == pytest.approx(keras.ops.convert_to_numpy(theirs["bounding_boxes"]["boxes"])[0, 0], abs=1.01)
    if shape == (200, 100):  # nothing is rounded: the pictures are equal too
        assert result * 255 == pytest.approx(keras.ops.convert_to_numpy(theirs["images"])[0], abs=1)


@pytest.mark.parametrize(
    "placement",
    [
        place_letterbox((363, 640), 416),
        place_letterbox((640, 441), (96, 128)),
        resizing.Placement(),
        resizing.Placement(-0.2, 0.1, 1.7, 0.6),
        resizing.Placement(-0.2, 0.1, 1.7, 0.6, True),
    ],
)
def test_undo_brings_boxes_back_even_from_outside(placement):
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(-0.5, 1.5, (4, 7, 2, 2)), axis=2).reshape(4, 7, 4)  # x1 y1 x2 y2
    flat = corners.reshape(-1, 4)
    boxes = np.concatenate([np.zeros((28, 1)), (flat[:, :2] + flat[:, 2:]) / 2, flat[:, 2:] - flat[:, :2]], axis=1)
    placed = placement.place(boxes, within=(-9, -9, 9, 9))
    back = placement.undo(corners_of(placed, 1).reshape(4, 7, 4))
    assert back == pytest.approx(corners, abs=1e-5)


def test_undo_is_darknets_where_nothing_is_rounded_in_half():
    placement = place_letterbox((300, 640), 416)  # 195 rows; 416 - 195 is odd: 110 above, 111 below
    found = placement.undo(np.array([0.25, 110 / 416, 0.5, (110 + 195) / 416]))
    assert found == pytest.approx([0.25, 0, 0.5, 1])
    even = place_letterbox((320, 640), 416)  # 208 rows, 104 above and below
    centre, side = 0.4, 0.2
    y, height = (centre - (416 - 208) / 2.0 / 416) / (208 / 416), side * 416 / 208  # correct_yolo_boxes
    assert even.undo(np.array([0, centre - side / 2, 1, centre + side / 2]))[[1, 3]] == pytest.approx(
        [y - height / 2, y + height / 2]
    )


# --- colours ---


@pytest.mark.parametrize(
    ("hue", "saturation", "exposure"), [(0.1, 1.5, 1.5), (-0.1, 0.7, 0.67), (0.42, 1, 1.3), (0, 1, 0.7)]
)
def test_bytes_change_as_opencvs_saturating_arithmetic_has_it(hue, saturation, exposure):
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    h, s, v = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    s, v = cv2.convertScaleAbs(s, alpha=saturation), cv2.convertScaleAbs(v, alpha=exposure)
    changed = cv2.merge([cv2.add(h, (179 * hue, 0, 0, 0)), s, v])
    assert (chance.shift_hsv(image, hue, saturation, exposure) == cv2.cvtColor(changed, cv2.COLOR_HSV2RGB)).all()


@pytest.mark.parametrize(("hue", "saturation", "exposure"), [(0.1, 1.5, 1.5), (-0.1, 0.7, 0.67), (0.5, 1, 1)])
def test_floats_change_as_darknets_formula_has_it(hue, saturation, exposure):
    image = np.random.default_rng(0).random((6, 7, 3)).astype(np.float32)
    image[0, 0], image[0, 1], image[0, 2] = 0, 0.5, 1
    expected = np.empty_like(image)
    for place in np.ndindex(6, 7):
        h, s, v = colorsys.rgb_to_hsv(*image[place].tolist())
        expected[place] = colorsys.hsv_to_rgb((h + hue) % 1, s * saturation, v * exposure)
    found = chance.shift_hsv(image, hue, saturation, exposure)
    assert found == pytest.approx(expected.clip(0, 1), abs=1e-5)
    assert found.dtype == np.float32


def test_hue_goes_round_in_floats_and_stops_at_red_in_bytes():
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 255
    assert chance.shift_hsv(red, -0.1, 1, 1).tolist() == [[[255, 0, 0]]]
    assert chance.shift_hsv(red / np.float32(255), -0.1, 1, 1)[0, 0] == pytest.approx([1, 0, 0.6], abs=1e-5)
    assert chance.shift_hsv(red, 0.1, 1, 1)[0, 0, 1] == pytest.approx(0.6 * 255, abs=1)


def test_without_change_the_picture_is_the_same():
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    assert chance.shift_hsv(image, 0, 1, 1) is image


# --- geometry, by hand ---


def test_alexeyabs_crop_by_hand():
    """100 x 50, margins 10 left, 5 top, -20 right, 0 bottom: 110 x 45 are left, sx = 1.1, sy = 0.9."""
    generator = Fixed(0.67, 0.67, 0.166, 0.5)  # of -30..30, -15..15, -30..30, -15..15, cut to whole pixels
    image = np.full((50, 100, 3), 200, np.uint8)
    boxes = np.array([[3, 0.4, 0.5, 0.2, 0.4]])
    options = changes(flip=False, **OFF)
    _, placed = chance.augment(image, boxes, 64, generator, options)
    left, right = 0.3 / 1.1 - 0.1 / 1.1, 0.5 / 1.1 - 0.1 / 1.1
    top, bottom = 0.3 / 0.9 - 0.1 / 0.9, 0.7 / 0.9 - 0.1 / 0.9
    assert placed[0] == pytest.approx([3, (left + right) / 2, (top + bottom) / 2, right - left, bottom - top])


def test_alexeyab_fills_with_the_mean_colour_and_flips():
    image = np.zeros((50, 100, 3), np.uint8)
    image[:, :40] = (255, 100, 51)
    options = changes(**OFF)
    found, placed = chance.augment(image, np.array([[0, 0.2, 0.5, 0.4, 1]]), 160, Fixed(0.0, coin=0.1), options)
    assert found[0, 0] == pytest.approx(np.array([102, 40, 20]) / 255, abs=0.5 / 255)  # 160 x 80, 30 and 15 around
    assert placed[0] == pytest.approx([0, 1 - 0.3125, 0.5, 0.25, 0.625])  # (30 + 20) / 160, 40 / 160, 50 / 80
    assert found[80, 110] == pytest.approx(np.array([255, 100, 51]) / 255, abs=0.01)
    assert found[80, 50] == pytest.approx(0, abs=0.01)


def test_alexeyabs_letter_box_keeps_the_aspect_ratio():
    image, boxes = draw((90, 160), (20, 30, 90, 60))
    for shape_image, shape_boxes in ((image, boxes), (image.transpose(1, 0, 2), boxes[:, [0, 2, 1, 4, 3]])):
        options = changes(jitter=0, flip=False, letterbox=True, **OFF)
        _, placed = chance.augment(shape_image, shape_boxes, 64, Fixed(0.5), options)
        expected = place_letterbox(shape_image.shape[:2], 64).place(shape_boxes)
        assert placed == pytest.approx(expected, abs=1e-6)


def test_pjreddies_placing_by_hand():
    """200 x 100 becomes 260 x 70 in ratio: 100 wide, int(26.9) high, half way down the 74 pixels that are left."""
    image = np.full((100, 200, 3), 255, np.uint8)
    boxes = np.array([[1, 0.25, 0.5, 0.1, 0.5]])
    options = changes(dialect="pjreddie", flip=False, **OFF)
    found, placed = chance.augment(image, boxes, 100, Fixed(1.0, 0.0, 0.5), options)
    assert placed[0] == pytest.approx([1, 0.25, (37 + 13) / 100, 0.1, 0.13])
    assert (found[:37] == 0.5).all() and (found[37:63] == 1).all() and (found[63:] == 0.5).all()
    tall, _ = chance.augment(image, boxes, (100, 50), Fixed(0.0, 1.0, 0.0, 0.0), options)  # 140 x 130, in 50 x 100
    assert (tall[:46] == 1).all() and (tall[46:] == 0.5).all()


@pytest.mark.parametrize(
    ("dialect", "side", "kept"),
    [("alexeyab", 0.99, 0), ("alexeyab", 1.01, 1), ("pjreddie", 0.063, 0), ("pjreddie", 0.065, 1)],
)
def test_tiny_boxes_go(dialect, side, kept):
    options = changes(dialect=dialect, jitter=0, flip=False, **OFF)
    boxes = np.array([[0, 0.5, 0.5, side / 64, 0.5]])
    _, placed = chance.augment(np.zeros((64, 64, 3), np.uint8), boxes, 64, Fixed(0.5), options)
    assert len(placed) == kept


# --- geometry, by pixels ---


@pytest.mark.parametrize("dialect", ["alexeyab", "pjreddie", "letter_box"])
@pytest.mark.parametrize(("shape", "size"), [((120, 200), 160), ((200, 100), (96, 192)), ((300, 400), 64)])
def test_the_box_follows_the_rectangle(dialect, shape, size):
    name = "alexeyab" if dialect == "letter_box" else dialect
    options = changes(dialect=name, letterbox=dialect == "letter_box")
    flips, cuts = 0, 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x1, y1 = rng.integers(0, shape[1] * 2 // 3), rng.integers(0, shape[0] * 2 // 3)
        image, boxes = draw(shape, (x1, y1, x1 + shape[1] // 4, y1 + shape[0] // 5))
        image[:, : shape[1] // 2] //= 2  # which half is dark tells whether it was mirrored
        ignored = np.concatenate([boxes, [[-2, *boxes[0, 1:]]]])
        found, placed = chance.augment(image, ignored, size, np.random.default_rng(seed), options)
        assert found.shape == (*resizing.as_pair(size), 3) and found.dtype == np.float32
        assert found.min() >= 0 and found.max() <= 1
        seen = find(found)
        if seen is None:
            assert (
                len(placed) == 0
                or corners_of(placed, size)[0, 2:].min() < 5
                or placed[0, 3:].min() * min(found.shape[:2]) < 4
            )
            continue
        assert placed[:, 0].tolist() == [0, -2]
        assert (placed[0, 1:] == placed[1, 1:]).all()
        # an edge that is enlarged is two pixels wide
        assert seen == pytest.approx(corners_of(placed, size)[0], abs=2.1)
        again, _ = chance.augment(image, ignored, size, np.random.default_rng(seed), options)
        assert (found == again).all()
        plain = changes(dialect=name, letterbox=options.letterbox, flip=False)
        flips += not np.array_equal(found, chance.augment(image, ignored, size, np.random.default_rng(seed), plain)[0])
        cuts += bool((corners_of(placed, 1)[0] % 1 == 0).any())
    assert 15 < flips <= 60
    assert (cuts > 3) == (dialect != "pjreddie") or dialect == "letter_box"


def test_draws_fill_their_ranges():
    """jitter 0.3: each side loses or gains up to 0.3; colours between 1 / 1.5 and 1.5; every second picture mirrored."""
    rng = np.random.default_rng(0)
    options = changes()
    margins = np.array([chance._draw_margins((100, 1000), (64, 64), rng, options) for _ in range(2000)])
    assert np.abs(margins).max(axis=0) == pytest.approx([299, 29, 299, 29], abs=1)  # whole pixels towards 0
    assert np.abs(np.corrcoef(margins.T) - np.eye(4)).max() < 0.1
    colours = np.array([chance._draw_colours(rng, options) for _ in range(4000)])
    assert colours.min(axis=0) == pytest.approx([-0.1, 1 / 1.5, 1 / 1.5], abs=2e-3)
    assert colours.max(axis=0) == pytest.approx([0.1, 1.5, 1.5], abs=2e-3)
    assert (colours[:, 1:] > 1).mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.03)
    assert colours[colours[:, 1] > 1, 1].mean() == pytest.approx(1.25, abs=0.01)  # uniform above 1
    image, boxes = draw((64, 64), (4, 20, 14, 40))
    still = changes(jitter=0, **OFF)
    sides = [chance.augment(image, boxes, 64, rng, still)[1][0, 1] for _ in range(400)]
    assert np.unique(np.round(sides, 3)) == pytest.approx([0.141, 0.859])
    assert np.mean(np.array(sides) > 0.5) == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize("dialect", ["alexeyab", "pjreddie"])
def test_a_picture_without_boxes_has_none_afterwards(dialect):
    options = changes(dialect=dialect)
    image = np.zeros((50, 60, 3), np.uint8)
    _, placed = chance.augment(image, np.empty((0, 5)), 32, np.random.default_rng(0), options)
    assert placed.shape == (0, 5)


def test_pictures_are_not_written_to():
    image, boxes = draw((50, 60), (5, 5, 30, 30))
    image.flags.writeable = boxes.flags.writeable = False
    for dialect in ("alexeyab", "pjreddie"):
        chance.augment(image, boxes, 32, np.random.default_rng(0), changes(dialect=dialect))
    chance.mosaic([(image, boxes)] * 4, 32, np.random.default_rng(0), changes())
    for resize in resizing.RESIZES.values():
        resize(image, 32)


# --- mosaic ---


@pytest.mark.parametrize(("options", "size"), [({}, 128), ({"letterbox": True}, 96), ({"jitter": 0.45}, (96, 160))])
def test_a_mosaic_holds_four_pictures_and_their_boxes(options, size):
    height, width = resizing.as_pair(size)
    seen_counts = np.zeros(4)
    crosses, own = [], 0
    for seed in range(40):
        rng = np.random.default_rng([seed, 1])
        pictures = []
        for number, colour in enumerate(COLOURS):
            x1, y1 = rng.integers(0, 100), rng.integers(0, 60)
            image, boxes = draw((120, 200), (x1, y1, x1 + 75, y1 + 45), colour)
            image[(image == 90).all(axis=-1)] = 100 + 20 * number  # another grey each
            boxes[:, 0] = number
            pictures.append((image, boxes))
        settings = changes(**{**OFF, **options})
        found, placed = chance.mosaic(pictures, size, np.random.default_rng(seed), settings)
        assert found.shape == (height, width, 3) and found.dtype == np.float32
        corners = corners_of(placed, size)
        for number, colour in enumerate(COLOURS):
            seen, mine = find(found, colour), corners[placed[:, 0] == number]
            if seen is None or min(seen[2:] - seen[:2]) < 3:
                assert len(mine) == 0 or min(mine[0, 2:] - mine[0, :2]) < 4
                continue
            seen_counts[number] += 1
            assert mine.shape == (1, 4)
            assert seen == pytest.approx(mine[0], abs=1.7)
        crosses.append(_cross(seed, width, height))
        x, y = crosses[-1]
        for number, part in enumerate((found[:y, :x], found[:y, x:], found[y:, :x], found[y:, x:])):
            own += (np.abs(part - (100 + 20 * number) / 255) < 0.004).all(axis=-1).any()
    assert seen_counts.min() > 20
    assert own >= 0.95 * 160  # quarters that show their own picture's background; a rectangle may cover a whole one
    crosses = np.array(crosses) / (width, height)
    assert crosses.min() >= 0.19 and crosses.max() <= 0.8 and np.ptp(crosses, axis=0).min() > 0.4


def _cross(seed, width, height):
    """The first two draws of a mosaic."""
    rng = np.random.default_rng(seed)
    return [int(rng.integers(int(side * 0.2), int(side * 0.8), endpoint=True)) for side in (width, height)]


def test_a_mosaic_passes_over_what_was_filled_up_at_the_cross():
    """All four shrink to 200 of 320 pixels with 60 of filling around; the shift of 60 * 320 / 200 = 96 hides the filling."""
    image = np.zeros((200, 200, 3), np.uint8)
    image[:] = (0, 200, 0)
    image[:2] = image[-2:] = image[:, :2] = image[:, -2:] = 255
    generator = Fixed(0.0)
    generator.integers = lambda low, high, endpoint: (low + high) // 2
    found, placed = chance.mosaic([(image, np.array([[0, 0.5, 0.5, 1, 1]]))] * 4, 320, generator, changes(**OFF))
    assert len(placed) == 4
    assert (found[156:164, 100:220] > 0.5)[..., 1].all()  # green or white at the cross, no filling (darker)
    assert find(found[160:, 160:], (0, 200, 0)) is not None


# --- multi-scale ---


size_at = functools.partial(resizing.multi_scale_size, random=1.4, max_batches=10**6)


def sizes(blocks, **options):
    return [size_at(10 * block, seed=1, **{"dialect": "alexeyab", **options}) for block in blocks]


def test_a_size_holds_for_ten_iterations_and_depends_on_the_seed():
    for dialect in ("alexeyab", "pjreddie"):
        found = [size_at(i, seed=1, size=416, dialect=dialect) for i in range(400)]
        assert all(len(set(found[start : start + 10])) == 1 for start in range(0, 400, 10))
        assert len(set(found)) > 5
        assert found == [size_at(i, seed=1, size=416, dialect=dialect) for i in range(400)]
        assert found != [size_at(i, seed=2, size=416, dialect=dialect) for i in range(400)]


def test_alexeyabs_sizes_have_the_frequencies_of_its_rule():
    found = np.array(sizes(range(1, 4001), size=416))[:, 0] // 32
    assert set(found) == set(range(10, 20))  # 320 to 608
    # factor f uniform in 1..1.4: 19 if 13 f + 1 >= 18.5, 13 if 1 / f brings 13 / f + 1 to at least 12.5
    share = {19: (1.4 - 17.5 / 13) / 0.8, 13: (13 / 11.5 - 1) / 0.8, 14: (13.5 / 13 - 1) / 0.8}
    for cells, expected in share.items():
        assert (found == cells).mean() == pytest.approx(expected, abs=0.02), cells


def test_pjreddies_sizes_are_uniform_whatever_the_cfg():
    found = np.array(sizes(range(4000), size=128, dialect="pjreddie"))
    assert (found[:, 0] == found[:, 1]).all()
    assert set(found[:, 0]) == set(range(320, 609, 32))
    assert np.bincount(found[:, 0] // 32)[10:] == pytest.approx(np.full(10, 400), abs=80)


@pytest.mark.parametrize(
    ("iteration", "options", "expected"),
    [
        (0, {"size": 416}, (608, 608)),  # round(1.4 * 13 + 1) = round(19.2)
        (9, {"size": 416}, (608, 608)),
        (0, {"size": 128}, (224, 224)),  # round(6.6)
        (0, {"size": (320, 416)}, (480, 608)),
        (0, {"size": 416, "random": 1.2}, (544, 544)),  # round(16.6)
        (0, {"size": 416, "random": 0}, (416, 416)),
        (5990, {"size": 416, "max_batches": 6000}, (608, 608)),
        (5910, {"size": 416, "max_batches": 6000}, (608, 608)),
        (5999, {"size": 416, "max_batches": 6000, "dialect": "pjreddie"}, (608, 608)),
        (5810, {"size": 416, "max_batches": 6000, "dialect": "pjreddie"}, (608, 608)),
    ],
)
def test_sizes_that_are_fixed(iteration, options, expected):
    for seed in range(5):
        assert size_at(iteration, seed=seed, **{"dialect": "alexeyab", **options}) == expected


@pytest.mark.parametrize(
    ("iteration", "dialect"), [(5900, "alexeyab"), (5800, "pjreddie"), (10, "alexeyab"), (0, "pjreddie")]
)
def test_sizes_before_the_end_are_drawn(iteration, dialect):
    options = {"size": 416, "dialect": dialect, "max_batches": 6000}
    assert len({size_at(iteration, seed=seed, **options) for seed in range(20)}) > 3


def test_a_smaller_factor_never_enlarges():
    found = sizes(range(1, 500), size=(320, 416))
    assert all((height <= 320) == (width <= 416) for height, width in found)
    assert min(sizes(range(1, 500), size=32))[0] == 32
