"""Batches of pairs of frames that depend on seed and step alone."""

import numpy as np
import pandas as pd
import pytest

from helpers.face_animation import data
from helpers.face_animation.batches import Batches
from helpers.face_animation.sources.local import write_folder


def frames_of(count, size=16, seed=0):
    """Frames that differ in their mean level by 8, smooth enough for any codec."""
    ramp = np.linspace(0, 30, size)[:, None, None] + np.zeros((1, size, 3))
    return np.stack([ramp + 8 * number + [0, 20, 40] for number in range(count)]).astype(np.uint8)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    for place, name in enumerate(("id1#v#000000#000006.mp4", "id1#w#000000#000006.mp4", "id2#v#000000#000006.mp4")):
        write_folder(root / name, np.clip(frames_of(6) + 60 * place, 0, 255).astype(np.uint8))
    return root


@pytest.fixture
def clips(root):
    return data.find_clips(root).sort_values("clip").reset_index(drop=True)


def number_and_clip(frame):
    """Which frame of which clip a picture is, by its corner's level of red."""
    place, rest = divmod(round(float(frame[0, 0, 0]) * 255), 60)
    return rest // 8, place


def test_batches_depend_on_seed_and_step_alone(root, clips):
    options = {"batch_size": 2, "size": (16, 16), "repeats": 3}
    first = Batches(clips, root, **options)
    assert first.steps_per_epoch == 4
    forward = [first.batch(step) for step in range(6)]
    other = Batches(clips, root, **options, keep=3)  # in memory: the same
    for step in (5, 2, 0):
        for name in ("source", "driving"):
            np.testing.assert_array_equal(other.batch(step)[name], forward[step][name])
    assert forward[0]["source"].shape == (2, 16, 16, 3) and forward[0]["source"].dtype == np.float32
    values = forward[0]["source"]
    assert values.min() >= 0 and 0.3 < values.max() <= 1
    changed = Batches(clips, root, **options, seed=1)
    assert any(not np.array_equal(changed.batch(step)["source"], forward[step]["source"]) for step in range(3))


@pytest.mark.parametrize(("by_person", "expected"), [(False, [8, 8, 8]), (True, [12, 12])])
def test_an_epoch_takes_every_clip_or_person_alike_and_the_earlier_frame_is_the_source(
    root, clips, by_person, expected
):
    made = Batches(
        clips,
        root,
        batch_size=4,
        size=(16, 16),
        repeats=sum(expected) // len(expected),
        by_person=by_person,
        augmentation=False,
    )
    seen, pairs = [], []
    for step in range(made.steps_per_epoch):
        batch = made.batch(step)
        for source, driving in zip(batch["source"], batch["driving"], strict=True):
            (first, clip), (second, same) = number_and_clip(source), number_and_clip(driving)
            assert clip == same and first <= second
            seen.append(clip)
            pairs.append((first, second))
    units = [int(clips["person"][clip][2:]) if by_person else clip for clip in seen]
    assert np.unique(units, return_counts=True)[1].tolist() == expected
    assert set(seen) == {0, 1, 2}
    assert len(set(pairs)) > 8 and any(first == second for first, second in pairs)


def test_batches_say_what_does_not_work(root, clips):
    with pytest.raises(ValueError, match="batch_size: received 4; allowed: 1 to 3"):
        Batches(clips, root, batch_size=4, size=(8, 8))


def test_batches_resize(root, clips):
    batch = Batches(pd.DataFrame(clips), root, batch_size=1, size=(8, 12), augmentation=False).batch(0)
    assert batch["source"].shape == (1, 8, 12, 3)


def test_pairs_to_watch_are_drawn_by_numbers_of_their_own(root, clips):
    batches = Batches(clips, root, batch_size=2, size=(8, 8), augmentation=False, seed=3)
    batch, watched = batches.batch(0), batches.pairs(0, "watch")
    assert any((batch[name] != watched[name]).any() for name in batch)
