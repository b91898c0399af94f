"""UCF101's zip with its official names; every group has two clips, drawn, and clips of one class share a few files."""

import io
import zipfile
from pathlib import Path

from helpers import config as configs
from helpers import video
from helpers.fetch import manifests
from helpers.temporal_coherence.config import TemporalCoherenceConfig
from helpers.temporal_coherence.mini import dataset
from helpers.temporal_coherence.sources import ucf101
from tests.rehearsal.site import Site

DISTINCT = 5  # drawn files of a class
SHORT = {"epochs": 2, "save_every": 1, "batch_size": 8, "step": 20, "tsne_frames": 60, "finetune_steps": 2}
SETTINGS: dict[str, dict[str, object]] = {
    # the paper's AlexNet on frames of 227 pixels takes a CPU a second a pair
    "t4": SHORT | {"classes": ["Billiards", "GolfSwing"], "size": 99, "embedding_dim": 256},
    "full": SHORT | {"size": 75, "learning_rate": 0.002, "batch_size": 16},
}


def prepare(site: Site, copy: Path, config: str) -> None:
    """Put the zip on its host: all 101 classes by name, those of the config with a clip of each group."""
    wanted = (
        SETTINGS[config].get("classes")
        or configs.load(copy / f"notebooks/temporal_coherence/{config}.yaml", TemporalCoherenceConfig).classes
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for place, row in enumerate(ucf101.class_table().to_dict("records")):
            name = row["class"]
            clips = _draw(copy, name, place) if name in wanted else [b"no clip"]
            for group in range(1, 26 if name in wanted else 2):
                for clip in (1, 2):
                    content = clips[(group + clip) % len(clips)]
                    archive.writestr(f"UCF101/v_{name}_g{group:02d}_c{clip:02d}.avi", content)
    site.put(manifests.load_manifest("ucf101").file(ucf101.ZIP).sources[0].url, packed.getvalue())


def _draw(scratch: Path, name: str, seed: int) -> list[bytes]:
    """Contents of a few clips, as large as UCF101's and a third as long."""
    path, contents = scratch / "drawn.avi", []
    scene = name if name in dataset.CLASSES else dataset.CLASSES[seed % len(dataset.CLASSES)]
    for group in range(DISTINCT):
        video.write_video(path, dataset.draw_clip(scene, group + 1, 1, seed=seed, size=(240, 320)), fps=dataset.FPS)
        contents.append(path.read_bytes())
    path.unlink()
    return contents
