"""Paired comparison and the view into a variant, as notebook 04 uses them."""

from helpers import runtime

runtime.quiet_start()

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers.face_animation import animate, evaluation, runs
from helpers.face_animation.config import FaceAnimationConfig

CONFIG = FaceAnimationConfig(source="mini", n_groups=1, size=32, network="tiny64", perceptual="stand_in", seed=5)


def test_paired_differences_as_a_paired_t_test_has_them():
    scores = pd.DataFrame(np.random.default_rng(0).normal(size=(7, 3)), columns=["copy", "one", "other"])
    found = evaluation.compare_paired(scores)
    assert list(found.index) == ["copy - one", "copy - other", "one - other"]
    for (name, row), (a, b) in zip(found.iterrows(), [(0, 1), (0, 2), (1, 2)], strict=True):
        first, second = scores.iloc[:, a], scores.iloc[:, b]
        statistic = stats.ttest_rel(first, second).statistic
        assert row["difference"] / row["standard error"] == pytest.approx(statistic), name
        assert row["second is less"] == f"{sum(y < x for x, y in zip(first, second, strict=True))} of 7"


def test_the_view_shows_what_the_animator_draws():
    animator = animate.Animator(*runs.load_networks(CONFIG, "fomm"), batch_size=4)
    clip = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), np.uint8)
    views = evaluation.look_inside(animator, np.repeat(clip[:1], 3, axis=0), clip)
    np.testing.assert_allclose(views["prediction"].astype(int), animator.reconstruct(clip), atol=1)
    assert views["deformed"].shape == clip.shape and len(views["masks"]) == 3
