"""Which side every phase of train and evaluate reads; see tests/test_sides.py. An item is the path of a frame."""

from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.temporal_coherence import steps
from helpers.temporal_coherence.batches import Frames
from helpers.temporal_coherence.config import TemporalCoherenceConfig
from helpers.temporal_coherence.mini import dataset
from helpers.workspace import Workspace

HERE = "helpers.temporal_coherence"
PHASES = {
    "batches of pairs": (f"{HERE}.batches.PairBatches.batch", {"train"}),
    "batches of views": (f"{HERE}.batches.ViewBatches.batch", {"train"}),
    "watching": (f"{HERE}.runs.Watch.__call__", {"validation"}),
    "scores": (
        f"{HERE}.evaluation.score_one",
        {"train", "test"},
    ),  # training clips are the gallery, and teach the probe
    "fine-tuning": (f"{HERE}.batches.LabelBatches.batch", {"train"}),
    "score of fine-tuning": (f"{HERE}.evaluation.clip_accuracy", {"test"}),
}


def prepare(folder: Path) -> TemporalCoherenceConfig:
    """Twelve drawn clips as a local folder, and a config for them."""
    clips = folder / "clips"
    dataset.make_dataset(
        clips,
        classes=("Archery", "Rowing"),
        groups=range(1, 7),
        clips_per_group=1,
        frames=(14, 20),
        size=(60, 80),
        jobs=1,
    )
    return TemporalCoherenceConfig(
        source="local", local_folder=str(clips), classes=(), split_by="group", validation_groups=1, allow_cpu=True,
        step=3, gap=2, negative_every=4, size=35, variant="tiny", embedding_dim=8, optimizer="adam", schedule="constant",
        loss="contrastive", compare=("nt_xent",), augment=("mirror",), batch_size=8, epochs=1, cluster_seeds=1,
        tsne_frames=50, label_shares=(1.0,), finetune_steps=2,
    )  # fmt: skip


def side_of_item(config: TemporalCoherenceConfig, place: Workspace | Path) -> dict[str, str]:
    """The side of every frame that step split kept."""
    pairs = steps.split.load(config, place).table("pairs")
    return {path: row.split for row in pairs.itertuples() for path in (row.path_query, row.path_next) if path}


def spy(monkeypatch: pytest.MonkeyPatch, saw: Callable[[str], None]) -> None:
    """Call `saw` with the path of each frame that is read, from disk or from the cache."""
    read = Frames.read

    def reading(self: Frames, path: str):
        saw(path)
        return read(self, path)

    monkeypatch.setattr(Frames, "read", reading)
