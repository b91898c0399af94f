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
