"""Changes of the training pairs, against Pillow's documentation and loops."""

import numpy as np
import pytest
from PIL import Image

from helpers.face_animation import augment


def still(**options):
    return {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, **options}


def test_half_are_swapped_a_quarter_mirrored():
    pair = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), np.uint8)
    kinds = {"swap": pair[::-1], "mirror": pair[:, :, ::-1], "same": pair}
    seen = dict.fromkeys(kinds, 0)
    generator = np.random.default_rng(1)
    for _ in range(2000):
        changed = augment.augment(pair, generator, **still())
        (kind,) = [name for name, expected in kinds.items() if np.array_equal(changed, expected)]
        seen[kind] += 1
    assert abs(seen["swap"] - 1000) < 100 and abs(seen["mirror"] - 500) < 90 and abs(seen["same"] - 500) < 90


GREY = [0.299, 0.587, 0.114]


@pytest.mark.parametrize(("name", "place"), [("brightness", 0), ("saturation", 1), ("contrast", 2)])
def test_one_factor_blends_with_its_picture(name, place):
    image = np.random.default_rng(0).integers(30, 200, (8, 6, 3), np.uint8)
    grey = image @ GREY
    other = {"brightness": 0, "saturation": grey[..., None], "contrast": np.floor(grey.mean() + 0.5)}[name]
    for factor in (0.9, 1.1):
        factors = np.ones(3)
        factors[place] = factor
        found = augment._jitter(image, factors, 0, np.arange(4)).astype(float)
        expected = other + factor * (image - other)
        assert np.abs(found - expected).max() <= 1.5 and np.abs(found - image).max() > 3
    changed = augment.augment(np.stack([image, image]), np.random.default_rng(2), **still(**{name: 0.1}))
    np.testing.assert_array_equal(*changed)  # both frames alike


def test_hue_turns_in_steps_of_eight_bits_and_wraps():
    for shift in (0.1, -0.1):
        image = Image.fromarray(np.array([[[200, 10, 10], [10, 200, 10], [90, 90, 90]]], np.uint8))
        before, after = (
            np.asarray(picture.convert("HSV"), int) for picture in (image, augment.shift_hue(image, shift))
        )
        turned = (after[0, :2, 0] - before[0, :2, 0]) % 256
        wanted = int(shift * 255) % 256  # 25 and -25: cut off towards zero
        assert np.abs(turned - wanted).max() <= 1
        np.testing.assert_array_equal(np.asarray(augment.shift_hue(image, shift))[0, 2], [90, 90, 90])
    assert augment.shift_hue(image, 0) is image
