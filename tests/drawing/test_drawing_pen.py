"""Pens: where points lie, to parts of a pixel, and what areas, lines and ovals cover."""

import math

import cv2
import numpy as np
import pytest

from helpers.drawing.pen import FRACTION, Pen, PlanePen, circle

WHITE = (255, 255, 255)
POINTS = [0j, 1 + 0j, 2 - 3j, -4.3 + 0.7j]


def empty(height=40, width=60, channels=3):
    return np.zeros((height, width, channels), np.uint8)


def covered(image):
    """Pixels of an image that was black, edges by their share; OpenCV covers half a pixel more than the shape, all round."""
    return image[..., 0].astype(float).sum() / 255


def middle(image):
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(image[..., 0] * x).sum(), (image[..., 0] * y).sum()]) / image[..., 0].sum()


def test_a_circle_begins_on_the_right_and_goes_by_way_of_i():
    corners = circle(8)
    np.testing.assert_allclose(corners[[0, 2, 4, 6]], [1, 1j, -1, -1j], atol=1e-12)
    np.testing.assert_allclose(np.abs(corners), 1)
    np.testing.assert_allclose(corners[1:] / corners[:-1], np.exp(0.25j * math.pi))


def test_pixels_are_rounded_to_sixteenths():
    pixels = Pen(empty()).pixels([(1, 2), (3.5, -1), (0.03, 0.04)])
    assert pixels.dtype == np.int32
    np.testing.assert_array_equal(pixels, [(16, 32), (56, -16), (0, 1)])


@pytest.mark.parametrize("mirror", [False, True])
def test_a_plane_is_mirrored_turned_enlarged_and_moved_as_by_a_matrix(mirror):
    scale, angle = 3.0, 0.4
    rotation = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    expected = [
        rotation @ [-point.real if mirror else point.real, point.imag] + np.array([20.0, 10.0]) for point in POINTS
    ]
    pen = PlanePen(empty(), 20 + 10j, scale * np.exp(1j * angle), mirror=mirror)
    np.testing.assert_allclose(pen.pixels(POINTS) / FRACTION, expected, atol=0.5 / FRACTION + 1e-9)
    np.testing.assert_array_equal(pen.pixels(np.array(POINTS)), pen.pixels(POINTS))
    assert pen.scale == pytest.approx(scale)


@pytest.mark.parametrize("shift", [0, 1 / 4, 1 / 2, 3 / 4])
def test_an_area_moves_by_parts_of_a_pixel(shift):
    image = empty()
    PlanePen(image, complex(30 + shift, 20)).box(-10, -6, 10, 6, WHITE)
    np.testing.assert_allclose(middle(image), (30 + shift, 20), atol=0.1)
    assert covered(image) == pytest.approx(21 * 13, rel=0.06)


def test_an_oval_has_its_radii_and_angle():
    lying, turned, reference = empty(), empty(), empty()
    PlanePen(lying, 30 + 20j).oval(0, 18 + 9j, WHITE)
    PlanePen(turned, 30 + 20j).oval(0, 18 + 9j, WHITE, 0.5)
    cv2.ellipse(reference, (30, 20), (18, 9), math.degrees(0.5), 0, 360, WHITE, -1, cv2.LINE_AA)
    assert covered(lying) == pytest.approx(math.pi * 18.5 * 9.5, rel=0.04)
    rows, columns = np.nonzero(lying[..., 0])
    assert (np.ptp(columns), np.ptp(rows)) == (pytest.approx(36, abs=2), pytest.approx(18, abs=2))
    assert np.abs(turned.astype(int) - reference).mean() < 6 < np.abs(lying.astype(int) - reference).mean()


def test_a_subclass_decides_how_many_corners_an_oval_has():
    class Square(PlanePen):
        corners = circle(4)

    image = empty()
    Square(image, 30 + 20j).oval(0, 10 + 10j, WHITE)
    assert covered(image) == pytest.approx((200**0.5 + 1) ** 2, rel=0.04)


def test_a_disk_is_as_large_as_the_scale_says():
    image = empty()
    PlanePen(image, 30.25 + 20.5j, 3).disk(1 - 1j, 4, WHITE)
    np.testing.assert_allclose(middle(image), (33.25, 17.5), atol=0.1)
    assert covered(image) == pytest.approx(math.pi * 12.5**2, rel=0.04)


@pytest.mark.parametrize(("width", "thick"), [(0.01, 1), (1.0, 3), (2.0, 6)])
def test_a_line_has_the_width_of_the_scale_and_at_least_one_pixel(width, thick):
    image, reference = empty(), empty()
    Pen(image, 3).line([(10, 20), (50, 22)], WHITE, width)
    cv2.line(reference, (10, 20), (50, 22), WHITE, thick, cv2.LINE_AA)
    np.testing.assert_array_equal(image, reference)


def test_a_line_is_not_closed_and_an_area_is():
    corners, line, area = [(10, 10), (50, 10), (50, 30)], empty(), empty()
    Pen(line).line(corners, WHITE, 1)
    Pen(area).area(corners, WHITE)
    assert not line[20, 29:32].any() and not line[25, 45].any()
    assert area[20, 34].all() and area[25, 45].all() and not area[25, 20].any()


def test_the_ink_of_a_subclass_reaches_every_channel():
    class Glass(Pen):
        def ink(self, color):
            return (*(value / 2 for value in color), 200)

    image = empty(channels=4)
    pen = Glass(image)
    pen.area([(10, 10), (20, 10), (20, 20), (10, 20)], (100, 60, 40))
    pen.line([(30, 5), (30, 35)], (100, 60, 40), 3)
    assert image[15, 15].tolist() == image[20, 30].tolist() == [50, 30, 20, 200]
    assert not image[35, 50].any()
