"""Pictures written with OpenCV come back as RGB; what is none is named."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

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


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("note", range(1, 9))
def test_a_picture_stands_upright_as_its_note_says(tmp_path, suffix, note):
    stored = np.zeros((40, 64, 3), np.uint8)
    stored[:16, :16], stored[24:, 48:], stored[:16, 48:] = RED[0, 0], (10, 255, 20), (20, 10, 255)
    exif = Image.Exif()
    exif[0x0112] = note
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(stored).save(path, exif=exif, **({"quality": 95} if suffix == "jpg" else {"lossless": True}))
    with Image.open(path) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))  # the oracle
    found = pictures.read_picture(path)
    assert found.shape == expected.shape and np.abs(found.astype(int) - expected).mean() < 2
    if suffix != "tif":  # which OpenCV always turns
        as_stored = pictures.read_picture(path, upright=False)
        assert as_stored.shape == stored.shape and np.abs(as_stored.astype(int) - stored).mean() < 2
    assert pictures.is_noted_turned(path) == (note != 1)


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_a_damaged_picture_is_named(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.jpg is no picture that can be read \({len(content)} bytes\)"):
        pictures.read_picture(tmp_path / "a.jpg")


def test_a_missing_picture_is_no_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        pictures.read_picture(tmp_path / "gone.jpg")
