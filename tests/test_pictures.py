"""Pictures written with OpenCV come back as RGB; what is none is named."""

import cv2
import numpy as np
import pytest

from helpers import pictures

RED = np.full((4, 6, 3), (255, 10, 20), np.uint8)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (RED[..., ::-1], RED),
        (np.dstack([RED[..., ::-1], np.full((4, 6), 9, np.uint8)]), RED),  # alpha
        (np.full((4, 6), 77, np.uint8), np.full((4, 6, 3), 77, np.uint8)),  # grey
    ],
)
def test_a_picture_comes_back_as_rgb(tmp_path, stored, expected):
    cv2.imwrite(str(tmp_path / "a.png"), stored)
    (tmp_path / "a.png").rename(tmp_path / "привет é.png")  # OpenCV itself would not open this name everywhere
    found = pictures.read_picture(tmp_path / "привет é.png")
    assert found.dtype == np.uint8 and np.array_equal(found, expected)


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_a_damaged_picture_is_named(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.jpg' is no readable picture \({len(content)} bytes\)"):
        pictures.read_picture(tmp_path / "a.jpg")


def test_a_missing_picture_is_no_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        pictures.read_picture(tmp_path / "gone.jpg")
