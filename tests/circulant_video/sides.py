"""Which videos each phase of circulant_video may read; `tests/test_sides.py` records which ones it does read."""

from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.circulant_video import batches, steps
from helpers.circulant_video.config import CirculantVideoConfig
from helpers.circulant_video.mini import dataset
from helpers.workspace import Workspace

PHASES = {
    "training batches": ("helpers.circulant_video.batches.Batches.batch", {"train"}),
    "watch": ("helpers.circulant_video.runs.Watch.__call__", {"validation"}),
    "class prior": ("helpers.circulant_video.batches.Videos.label_shares", {"train"}),
    "score of the class prior": ("helpers.circulant_video.evaluation.score_prior", {"validation"}),
    "scores": ("helpers.circulant_video.evaluation.score_seeds", {"validation"}),
}


def prepare(folder: Path) -> CirculantVideoConfig:
    """Three shards, one for each side, and a config that trains two networks on them."""
    dataset.make_dataset(folder / "drawn", shards={"train0000": 24, "validate3224": 12, "test0000": 6})
    return CirculantVideoConfig(
        source="local", local_folder=str(folder / "drawn" / "frame"), feature_sizes=(64, 16), classes=24, max_frames=40,
        experiments=("diagonal",), seeds=(0,), clusters=16, vlad_clusters=4, hidden=8, mixtures=2, bags=2, iterations=3,
        momentum=0.9, batch_size=8, epochs=1, learning_rate=0.004, watch_videos=12, allow_cpu=True,
    )  # fmt: skip


def side_of_item(config: CirculantVideoConfig, place: Workspace) -> dict[str, str]:
    """Id of every video -> its side."""
    prepared, shards = steps.preprocess.load(config, place), steps.split.load(config, place).table("shards")
    return {
        name: side for side in shards["split"].unique() for name in batches.open_side(prepared.folder, shards, side).ids
    }


def spy(monkeypatch: pytest.MonkeyPatch, saw: Callable[[str], None]) -> None:
    """Call `saw` with the id of every video of which frames or labels are read."""
    frames, labels, label_shares = batches.Videos.frames, batches.Videos.labels, batches.Videos.label_shares

    def spied_frames(self, row):
        saw(str(self.ids[row]))
        return frames(self, row)

    def spied_labels(self, rows):
        for row in rows:
            saw(str(self.ids[row]))
        return labels(self, rows)

    def spied_shares(self):
        for name in self.ids:
            saw(str(name))
        return label_shares(self)

    monkeypatch.setattr(batches.Videos, "frames", spied_frames)
    monkeypatch.setattr(batches.Videos, "labels", spied_labels)
    monkeypatch.setattr(batches.Videos, "label_shares", spied_shares)
