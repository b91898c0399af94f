"""A clip of one's own among the training clips: the order is evaluate's, by scikit-learn; what is refused, and the picture."""

import functools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors

from helpers import runtime, video

runtime.quiet_start()

from helpers.temporal_coherence import answer, metrics, runs, steps
from helpers.temporal_coherence.batches import see
from helpers.temporal_coherence.config import TemporalCoherenceConfig
from helpers.temporal_coherence.mini import dataset

SMALL = {"classes": ("Archery", "Rowing"), "groups": (1, 2, 8, 9, 10, 11), "frames": (14, 26), "size": (60, 80)}
CONFIG = TemporalCoherenceConfig(
    source="mini", classes=(), step=3, gap=2, negative_every=4, size=35, validation_groups=1, variant="tiny",
    embedding_dim=8, inputs="differences", loss="contrastive", allow_cpu=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A workspace with a few drawn clips, split, which `open_workspace` finds."""
    root = tmp_path_factory.mktemp("workspace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_WORKSPACE", str(root))
        patch.setattr(dataset, "make_dataset", functools.partial(dataset.make_dataset, **SMALL))
        for step in steps.STEPS[:3]:
            step(CONFIG, root)
        yield root


def of_evaluate(config, place, network):
    """Clip features as evaluate has them, read from the frames that step preprocess wrote: side -> means, names."""
    pairs = see(config.inputs, steps.split.load(config, place).table("pairs"))
    rows = pairs[pairs["split"].isin(("train", "test"))].reset_index(drop=True)
    frames = steps.frames_of(config, place, rows)
    features = runs.embed(network, frames, rows["path_query"].tolist(), normalize=config.normalize)
    sides = {side: (rows["split"] == side).to_numpy() for side in ("train", "test")}
    means = {side: metrics.clip_features(features[kept], rows[kept])[0] for side, kept in sides.items()}
    return means, {side: sorted(rows.loc[kept, "video"].unique()) for side, kept in sides.items()}


@pytest.mark.parametrize("inputs", ["frames", "differences"])
def test_a_test_clip_has_the_neighbours_that_evaluate_gives_it(place, inputs):
    config = CONFIG.__class__(**CONFIG.__dict__ | {"inputs": inputs})
    network = runs.load_trunk(config)
    means, names = of_evaluate(config, place, network)
    gallery = NearestNeighbors(metric="cosine").fit(means["train"])
    root = steps.build_dataset.load(config, place).source_root
    for number in (0, len(names["test"]) - 1):
        found = answer.answer(root / names["test"][number], network, config)
        distances, order = gallery.kneighbors(means["test"][number : number + 1], answer.NEAREST)
        assert found.table["video"].tolist() == [names["train"][place] for place in order[0]]
        assert np.allclose(found.table["distance"], distances[0], atol=1e-6)
    assert found.kind == "picture" and found.picture.dtype == np.uint8 and found.picture.shape[1] <= 900
    half, most = np.quantile(gallery.kneighbors(means["test"], 1)[0], (0.5, 0.95))
    assert f"half within {half:.3f}, 95 % within {most:.3f}" in found.text[1]
    assert "trained on" in found.text[2] and "drawings" in found.text[2]


def test_clips_are_compared_with_minis_own_however_many_the_network_saw(place, monkeypatch):
    network = runs.load_trunk(CONFIG)
    usual, *_ = answer.rank(np.ones((1, 8)), network, CONFIG)
    monkeypatch.setattr(dataset, "make_dataset", lambda *_, **__: pytest.fail("no clip has to be drawn"))
    found, *_ = answer.rank(np.ones((1, 8)), network, replace(CONFIG, more_groups=80))
    pd.testing.assert_frame_equal(found, usual)


def test_how_near_is_near_is_told_by_the_test_clips():
    near = pd.DataFrame({"class": ["Rowing", "Archery", "Rowing"], "distance": [0.2, 0.3, 0.4]})
    usual = np.linspace(0.0, 0.1, 21)
    lines = answer.explain(near, usual, near, CONFIG)
    assert lines[0] == "2 of the 3 nearest training clips are Rowing"
    assert (
        lines[1]
        == "the nearest is at 0.200, farther than nearly all of 21 test clips have theirs: half within 0.050, 95 % within 0.095"
    )
    assert "0.200, farther than most of" in answer.explain(near, usual * 3, near, CONFIG)[1]
    assert "0.200, as near as most of" in answer.explain(near, usual * 9, near, CONFIG)[1]


def test_a_clip_of_another_form_keeps_its_form_in_the_picture():
    tall = np.zeros((90, 30, 3), np.uint8)
    tile = answer._fit(tall)
    assert tile.shape == (120, 160, 3) and (tile == 0).all(axis=2).sum() == 120 * 40


def clip(frames):
    return lambda path: video.write_video(path, np.zeros((frames, 40, 60, 3), np.uint8), 25)


REFUSED = [
    (clip(5), "own.avi", ValueError, "own.avi has 5 frames that decode, at least 6 are needed: take a longer clip"),
    (lambda path: path.write_text("no film"), "own.mp4", ValueError, "own.mp4 is a text; expected a video"),
    (lambda path: None, "own.mp4", FileNotFoundError, "own.mp4: check its name, expected a video"),
    (lambda path: path.write_bytes(b"\x1aE\xdf\xa3" + bytes(999)), "own.mkv", ValueError, "not one frame of"),
]


@pytest.mark.parametrize(("make", "name", "error", "words"), REFUSED)
def test_what_cannot_be_answered_is_refused_in_a_sentence(place, tmp_path, make, name, error, words):
    make(tmp_path / name)
    with pytest.raises(error) as refusal:
        answer.answer(tmp_path / name, runs.load_trunk(CONFIG), CONFIG)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_the_shortest_clip_that_is_taken_has_as_many_frames_as_is_said(place, tmp_path):
    clip(6)(tmp_path / "own.avi")
    features, seen = answer.embed_clip(tmp_path / "own.avi", runs.load_trunk(CONFIG), CONFIG, tmp_path)
    assert len(seen) == 1 and features.shape == (1, 8)
