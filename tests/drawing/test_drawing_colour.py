"""Colours of the drawn data sets: lighter, mixed, and from hue, saturation and value."""

import colorsys

import pytest

from helpers.drawing.colour import from_hsv, mix, shade


def test_shade():
    assert shade((100, 200, 30), 0.5) == (50, 100, 15)
    assert shade((100, 200, 30), 1.5) == (150, 255, 45)
    assert all(type(channel) is int for channel in shade((1, 2, 3), 0.7))


def test_mix():
    red, blue = (250, 10, 0), (50, 110, 200)
    assert mix(red, blue, 0) == red and mix(red, blue, 1) == blue
    assert mix(red, blue, 0.25) == (200, 35, 50)
    with pytest.raises(ValueError, match="zip"):
        mix(red, (1, 2), 0.5)


@pytest.mark.parametrize("hsv", [(0, 255, 255), (60, 255, 128), (100, 90, 210), (179, 30, 255), (20, 0, 77)])
def test_from_hsv_is_the_standard_librarys(hsv):
    hue, saturation, value = hsv
    expected = colorsys.hsv_to_rgb(hue / 180, saturation / 255, value / 255)
    assert from_hsv(*hsv) == pytest.approx([255 * channel for channel in expected], abs=1)
    assert from_hsv(hue + 180, saturation, value) == from_hsv(*hsv)
    assert all(type(channel) is int for channel in from_hsv(*hsv))
