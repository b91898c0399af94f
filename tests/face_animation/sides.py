"""Which clips each phase of a face_animation training may read; `tests/test_sides.py` runs it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.face_animation import data, steps
from helpers.face_animation.config import FaceAnimationConfig
from helpers.workspace import Workspace

PHASES = {
    "training": ("helpers.face_animation.batches.Batches.batch", {"train"}),
    "watching": ("helpers.face_animation.runs.watched_pairs", {"validation"}),
    "scoring": ("helpers.face_animation.evaluation.scoring.score_all", {"test"}),
    "animating": ("helpers.face_animation.evaluation.scoring.animate_pairs", {"test"}),
    "timing": ("helpers.face_animation.evaluation.scoring.measure_all", {"test"}),
}


def prepare(folder: Path) -> FaceAnimationConfig:
    """Four clips to train on, in two groups, and two for the test, of three pictures each."""
    rng = np.random.default_rng(0)
    for side, count in (("train", 4), ("test", 2)):
        for number in range(count):
            clip = folder / "own" / side / f"{side}{number}#a.mp4"
            clip.mkdir(parents=True)
            for frame, picture in enumerate(rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)):
                Image.fromarray(picture).save(clip / f"{frame}.png")
    return FaceAnimationConfig(
        source="local", local_folder=str(folder / "own"), size=32, n_groups=2, seed=1, pairs=1, variants=("fomm",),
        network="tiny64", perceptual="stand_in", generator_gan=0.0, epochs=1, repeats=1, batch_size=2, watch_pairs=2,
        test_frames=2, allow_cpu=True,
    )  # fmt: skip


def side_of_item(config: FaceAnimationConfig, place: Workspace) -> dict[str, str]:
    """The side of every prepared clip, by its path."""
    clips = steps.split.load(config, place).table("clips")
    return dict(zip(clips["path"], clips["side"], strict=True))


def spy(monkeypatch: pytest.MonkeyPatch, saw: Callable[[str], None]) -> None:
    """Tell of every clip that is read, by its path."""

    def telling(read: Callable) -> Callable:
        def told(path: Path, *arguments: object, **options: object) -> np.ndarray:
            saw("/".join(path.parts[-2:]))
            return read(path, *arguments, **options)

        return told

    for read in (data.read_clip, data.read_frames):
        monkeypatch.setattr(data, read.__name__, telling(read))
