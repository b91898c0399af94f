"""Augmentation changes all frames of a clip alike, and batches depend on (seed, step) alone."""

import dataclasses

import numpy as np
import pytest

from helpers import config, runtime
from helpers.lip_reading.augment import Augmentation, augment_clip, mix_up
from helpers.lip_reading.batches import Batches, to_unit
from helpers.lip_reading.config import LipReadingConfig

RNG = np.random.default_rng(0)
STILL = np.repeat(RNG.integers(30, 200, (1, 8, 10, 3), np.uint8), 6, axis=0)  # the same picture six times
DOT = np.zeros((12, 21, 31, 1), np.uint8)
DOT[:, 10, 15] = 255


def some(count=20, **options):
    for seed in range(count):
        yield np.random.default_rng(seed), Augmentation(**options)


def place_of(frame):
    rows, columns = np.indices(frame.shape[:2])
    weight = frame[..., 0] / frame[..., 0].sum()
    return (columns * weight).sum(), (rows * weight).sum()


def test_nothing_asked_nothing_changed():
    clip = RNG.integers(0, 255, (6, 8, 10, 1), np.uint8)
    for rng, options in some(5):
        found = augment_clip(clip, rng, options)
        np.testing.assert_array_equal(found, to_unit(clip))
        assert found.dtype == np.float32


@pytest.mark.parametrize(
    "options", [{"shift": 0.3}, {"scale": 0.3}, {"rotate": 30}, {"flip": 1}, {"brightness": 0.5}, {"contrast": 0.5}]
)
def test_all_frames_of_a_clip_change_alike_and_clips_differently(options):
    first = []
    for rng, settings in some(8, **options):
        found = augment_clip(STILL, rng, settings)
        assert found.shape == STILL.shape and found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
        assert (found == found[:1]).all()
        assert np.abs(found - to_unit(STILL)).max() > 1e-3
        first.append(found[0])
    assert options == {"flip": 1} or len({frame.tobytes() for frame in first}) == 8


def test_shift_and_scale_stay_within_their_limits():
    places = np.array([place_of(augment_clip(DOT, rng, options)[0]) for rng, options in some(60, shift=0.2)])
    moved = places - (15, 10)
    assert np.abs(moved[:, 0]).max() <= 0.2 * 31 + 0.1 and np.abs(moved[:, 1]).max() <= 0.2 * 21 + 0.1
    assert np.abs(moved).max(axis=0).min() > 3 and moved.min() < -2 and moved.max() > 2
    for rng, options in some(10, scale=0.3, rotate=40):
        assert place_of(augment_clip(DOT, rng, options)[0]) == pytest.approx((15, 10), abs=0.1)  # about the middle


def test_rotation_turns_by_its_degrees():
    clip = np.zeros((2, 41, 41, 1), np.uint8)
    clip[:, 19:22, 34:37] = 255  # right of the middle
    angles = []
    for rng, options in some(40, rotate=20):
        x, y = place_of(augment_clip(clip, rng, options)[0])
        assert np.hypot(x - 20, y - 20) == pytest.approx(15, abs=0.3)
        angles.append(np.degrees(np.arctan2(y - 20, x - 20)))
    assert -21 < min(angles) < -12 and 12 < max(angles) < 21


def test_flip_mirrors_about_as_often_as_asked():
    clip = RNG.integers(0, 255, (3, 8, 10, 1), np.uint8)
    flipped = [
        np.array_equal(augment_clip(clip, rng, options), to_unit(clip[:, :, ::-1]))
        for rng, options in some(80, flip=0.25)
    ]
    assert 8 <= sum(flipped) <= 34


def test_light_and_contrast():
    grey = np.full((2, 8, 8, 1), 100, np.uint8)
    values = [augment_clip(grey, rng, options)[0, 0, 0, 0] for rng, options in some(60, brightness=0.3)]
    assert (
        0.7 * 100 / 255 - 1e-3 <= min(values) < 0.78 * 100 / 255
        and 1.22 * 100 / 255 < max(values) <= 1.3 * 100 / 255 + 1e-3
    )
    for rng, options in some(10, contrast=0.5):
        found = augment_clip(STILL, rng, options)
        assert found.mean() == pytest.approx(to_unit(STILL).mean(), abs=0.01)


def numbered(count=12):
    """Frame t is grey value 10 t."""
    return np.broadcast_to((10 * np.arange(count, dtype=np.uint8)).reshape(-1, 1, 1, 1), (count, 4, 4, 1)).copy()


def times(clip):
    return np.round(clip[:, 0, 0, 0] * 25.5).astype(int)


def test_time_shift_repeats_the_ends():
    seen = set()
    for rng, options in some(60, time_shift=2):
        found = times(augment_clip(numbered(), rng, options))
        delay = next(d for d in range(-2, 3) if (found == np.clip(np.arange(12) - d, 0, 11)).all())
        seen.add(delay)
    assert seen == {-2, -1, 0, 1, 2}


def test_tempo_plays_a_clip_faster_or_slower_around_a_moment():
    slopes, middles = [], []
    for rng, options in some(60, tempo=0.4):
        found = times(augment_clip(numbered(40)[:24], rng, options))
        inner = (found > 0) & (found < 23)
        slope, start = np.polyfit(np.flatnonzero(inner), found[inner], 1)
        assert (np.diff(found) >= 0).all() and np.abs(start + slope * np.arange(24) - found)[inner].max() < 0.8
        assert np.min(np.abs(found - np.arange(24))) == 0, "one moment stays where it is"
        slopes.append(slope)
        middles += [start / (1 - slope)] if abs(slope - 1) > 0.15 else []
    assert min(middles) < 6 and max(middles) > 17 and min(middles) > -2 and max(middles) < 25, "any moment of the clip"
    assert 0.57 < min(slopes) < 0.75 and 1.25 < max(slopes) < 1.43


def test_dropped_frames_show_the_one_before():
    drops = 0
    for rng, options in some(40, frame_drop=0.25):
        found = times(augment_clip(numbered(), rng, options))
        assert found[0] == 0 and all(now in (t, found[t - 1]) for t, now in enumerate(found) if t)
        drops += int((found != np.arange(12)).sum())
    assert 0.15 < drops / (40 * 11) < 0.36


def test_a_mask_is_one_block_of_the_mean():
    lengths = set()
    for rng, options in some(60, time_mask=0.5):
        found = augment_clip(numbered(), rng, options)[:, 0, 0, 0] * 25.5
        masked = np.flatnonzero(np.abs(found - 5.5) < 1e-3)
        assert (np.delete(found, masked).round(3) == np.delete(np.arange(12), masked)).all()
        assert len(masked) <= 6 and (len(masked) == 0 or np.ptp(masked) == len(masked) - 1)
        lengths.add(len(masked))
    assert {0, 6} < lengths


def test_one_option_does_not_change_what_another_draws():
    for seed in range(5):
        alone = augment_clip(DOT, np.random.default_rng(seed), Augmentation(shift=0.2))
        both = augment_clip(
            DOT, np.random.default_rng(seed), Augmentation(shift=0.2, time_mask=0.0, brightness=0.0, time_shift=3)
        )
        np.testing.assert_array_equal(alone, both)  # all frames are the same, so a shift in time shows nothing


def test_options_come_from_the_configuration():
    settings = config.load(runtime.repo_root() / "notebooks/lip_reading/mini.yaml", LipReadingConfig)
    found = Augmentation.of(settings)
    assert all(getattr(settings, key) == value for key, value in dataclasses.asdict(found).items())
    assert (found.shift, found.time_shift, found.flip) == (0.09, 2, 0.5)


def test_mixup_blends_clips_and_labels_alike():
    clips = np.eye(8, dtype=np.float32).reshape(8, 1, 1, 8, 1)  # clip i is its own label
    labels = np.eye(8, dtype=np.float32)
    mixed, soft = mix_up(clips, labels, np.random.default_rng(3), 0.4)
    np.testing.assert_allclose(mixed.reshape(8, 8), soft, atol=1e-6)
    assert mixed.dtype == soft.dtype == np.float32 and (np.count_nonzero(soft, axis=1) <= 2).all()
    np.testing.assert_allclose(soft.sum(axis=1), 1, atol=1e-6)
    assert (np.count_nonzero(soft, axis=1) == 2).sum() >= 4
    same, untouched = mix_up(clips, labels, np.random.default_rng(3), 0.0)
    assert same is clips and untouched is labels


CLIPS = np.broadcast_to(np.arange(23, dtype=np.uint8).reshape(-1, 1, 1, 1, 1), (23, 4, 6, 6, 1)).copy()
LABELS = np.arange(23) % 3


def batches(**changes):
    return Batches(CLIPS, LABELS, **{"num_classes": 3, "batch_size": 5, "seed": 1} | changes)


def test_an_epoch_takes_each_clip_once_and_leaves_the_rest():
    source = batches()
    assert source.steps_per_epoch == 4
    epochs = []
    for epoch in range(3):
        seen = []
        for step in range(4):
            clips, labels = source.batch(4 * epoch + step)
            numbers = np.round(clips[:, 0, 0, 0, 0] * 255).astype(int)
            assert clips.shape == (5, 4, 6, 6, 1) and clips.dtype == labels.dtype == np.float32
            assert (labels.argmax(axis=1) == numbers % 3).all() and (labels.sum(axis=1) == 1).all()
            seen += numbers.tolist()
        assert len(set(seen)) == 20
        epochs.append(seen)
    assert epochs[0] != epochs[1] != epochs[2]


def test_batches_depend_on_seed_and_step_alone():
    options = {"augmentation": Augmentation(shift=0.2, flip=0.5, frame_drop=0.3), "mixup": 0.3}
    source, jumped = batches(**options), batches(**options)
    walked = [source.batch(step) for step in range(9)]
    for step in (8, 2, 5):
        for a, b in zip(walked[step], jumped.batch(step), strict=True):
            np.testing.assert_array_equal(a, b)
    assert not np.array_equal(walked[3][0], batches(**options, seed=2).batch(3)[0])
    assert not np.array_equal(walked[1][0], walked[2][0])


def test_labels_are_smoothed_and_rows_chosen():
    clips, labels = batches(label_smoothing=0.3, rows=np.arange(10, 16)).batch(0)
    assert set(np.round(clips[:, 0, 0, 0, 0] * 255).astype(int)) <= set(range(10, 16))
    assert np.unique(labels.round(4)).tolist() == pytest.approx([0.1, 0.8]) and labels.sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"batch_size": 24}, "batch_size: received 24; allowed: 1 to 23"),
        ({"batch_size": 0}, "batch_size: received 0"),
        ({"batch_size": 4, "rows": np.arange(3)}, "allowed: 1 to 3"),
        ({"num_classes": 2}, "labels from 0 to 1"),
    ],
)
def test_bad_batches(changes, words):
    with pytest.raises(ValueError, match=words):
        batches(**changes)
    with pytest.raises(ValueError, match=r"\(N, T, H, W, C\)"):
        Batches(CLIPS, LABELS[:-1], num_classes=3, batch_size=5)
