"""A changed frame is still a picture, and another one."""

import numpy as np
import pytest

from helpers.temporal_coherence import augment


@pytest.mark.parametrize("seed", range(20))
def test_augment_frame_keeps_a_picture_a_picture(seed):
    frame = np.random.default_rng(0).random((19, 19, 3)).astype(np.float32)
    before = frame.copy()
    changed = augment.augment_frame(frame, np.random.default_rng(seed))
    assert changed.shape == frame.shape and changed.dtype == np.float32 and np.isfinite(changed).all()
    assert 0 <= changed.min() < changed.max() <= 1 and changed.std() > 0.03
    np.testing.assert_array_equal(frame, before)  # the cache holds the frames: they must stay as they are


@pytest.mark.parametrize("seed", range(10))
def test_each_change_changes_only_what_it_names(seed):
    frame = np.random.default_rng(0).uniform(0.45, 0.55, (19, 19, 3)).astype(np.float32)  # no factor makes it clip
    nothing, mirrored, coloured = (
        augment.augment_frame(frame, np.random.default_rng(seed), changes) for changes in ((), ("mirror",), ("colour",))
    )
    assert nothing is frame
    assert (mirrored == frame).all() or (mirrored == np.fliplr(frame)).all()
    for channel in range(3):  # brightness and contrast: a straight line of the old values
        before, after = frame[..., channel].ravel(), coloured[..., channel].ravel()
        assert np.polyfit(before, after, 1)[0] == pytest.approx((after.std() / before.std()), rel=1e-3)
    ramp = np.repeat(np.linspace(0, 1, 19, dtype=np.float32)[None, :, None], 19, axis=0).repeat(3, axis=2)
    cropped = augment.augment_frame(ramp, np.random.default_rng(seed), ("crop",))
    assert (np.diff(cropped[..., 0], axis=1) >= -1e-6).all() and np.ptp(
        cropped[:, 9]
    ) < 1e-6  # still a ramp, not turned
    assert 0.68 <= np.ptp(cropped[..., 0]) <= 1  # a square of half the area has 0.71 of the side


def test_half_of_the_pictures_are_mirrored():
    frame = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    generator = np.random.default_rng(0)
    turned = [(augment.augment_frame(frame, generator, ("mirror",)) != frame).any() for _ in range(400)]
    assert np.mean(turned) == pytest.approx(0.5, abs=0.1)
