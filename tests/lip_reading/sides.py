"""Which clips each phase of training and evaluation reads, for `tests/test_sides.py`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import video
from helpers.lip_reading import batches, steps
from helpers.lip_reading.config import LipReadingConfig, LipSize
from helpers.lip_reading.mini import scenes
from helpers.workspace import Workspace

WORDS = ("about", "pony")
CONFIG = LipReadingConfig(
    hide_metadata=True, hide_libs_vers=True, path_to_dataset="set by prepare", len_video=6, size_lips=LipSize(16, 16),
    padding_lips=True, seed=1, batch_size=4, channels_lips=1, lr=0.003, epoch=2, epoch_stop=0, lips="fixed",
    window=(20, 20, 100, 100), model="tiny", allow_cpu=True, split_by="speaker", validation_share=0.25, test_share=0.25,
)  # fmt: skip

PHASES: dict[str, tuple[str, set[str]]] = {
    "training batches": ("helpers.lip_reading.batches.Batches.batch", {"train"}),
    "watching": ("helpers.lip_reading.runs.Watch.__call__", {"validation"}),
    "scoring": ("helpers.lip_reading.evaluation.read_clips", {"test"}),
    "the templates": ("helpers.lip_reading.evaluation.read_templates", {"train", "test"}),
    "the baseline without motion": ("helpers.lip_reading.evaluation.read_mean_frames", {"train", "test"}),
}


def prepare(folder: Path) -> LipReadingConfig:
    """Draw four speakers who say two words, twice each, and name the folder."""
    for speaker in ("s01", "s02", "s03", "s04"):
        for word in WORDS:
            for take in (1, 2):
                path = scenes.clip_path(speaker, word, take)
                plan = scenes.plan_clip(path)
                video.write_video(folder / path, plan.frames(), plan.fps)
    return dataclasses.replace(CONFIG, path_to_dataset=str(folder))


def side_of_item(config: LipReadingConfig, place: Workspace) -> dict[int, str]:
    """The side of every clip, by its row."""
    return steps.split.load(config, place).table("clips")["split"].to_dict()


class Recorder:
    """Clips that tell which rows are taken of them."""

    def __init__(self, clips: np.ndarray, saw: Callable[[Any], None]) -> None:
        self.clips, self.saw = clips, saw
        self.shape, self.dtype, self.ndim = clips.shape, clips.dtype, clips.ndim

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, rows: Any) -> np.ndarray:
        for row in np.atleast_1d(np.arange(len(self))[rows]):
            self.saw(int(row))
        return self.clips[rows]


def spy(monkeypatch: pytest.MonkeyPatch, saw: Callable[[Any], None]) -> None:
    """Let `saw(row)` know of each clip that is read."""
    genuine = batches.Lips.of

    def recorded(result: Any) -> batches.Lips:
        lips = genuine(result)
        return dataclasses.replace(lips, clips=Recorder(lips.clips, saw))

    monkeypatch.setattr(batches.Lips, "of", staticmethod(recorded))
