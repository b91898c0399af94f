"""RAVDESS's record with puppets for actors; VoxCeleb's table with the videos of a puppet theatre; VGG19 without its training."""

import io
import tempfile
import zipfile
from functools import partial
from pathlib import Path

import cv2
import h5py
import numpy as np

from helpers import video
from helpers.drawing.files import draw_all
from helpers.face_animation.mini import dataset, originals
from helpers.face_animation.sources import ravdess, voxceleb
from helpers.fetch import manifests
from tests.rehearsal.site import Site

ACTORS, EMOTIONS = (1, 2, 3, 4), range(1, 7)
VIDEOS = "voxceleb-videos"
VGG19 = {1: (64, 2), 2: (128, 2), 3: (256, 4), 4: (512, 4), 5: (512, 4)}  # block: filters, convolutions
VGG19_FILE = "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
SMALL = {"size": 64, "epochs": 1, "repeats": 1, "batch_size": 2, "watch_pairs": 4, "pairs": 3, "test_clips": 4}
SMALL |= {"test_frames": 6, "allow_cpu": True}
SETTINGS: dict[str, dict[str, object]] = {
    "t4": SMALL | {"actors": list(ACTORS)},
    "full": SMALL | {"group_size": 5, "group": 1, "network": "small128"},
}
# Keras compares the file with the genuine one's MD5, and keeps it in the user's home: neither may happen here.
GET_FILE = """

def _get_file(name, origin, file_hash, genuine=keras.utils.get_file, **options):
    return genuine(name, "{url}", cache_dir="{folder}", **options)


from keras.src.utils import file_utils

file_utils.get_file = _get_file
"""


def prepare(site: Site, copy: Path, config: str) -> None:
    """Serve RAVDESS (t4), or VoxCeleb's table and lay the videos beside the notebooks (full); and VGG19's file."""
    site.put(VGG19_FILE, draw_vgg19())
    with (copy / "helpers/face_animation/losses.py").open("a") as file:
        file.write(GET_FILE.format(url=VGG19_FILE, folder=copy / "keras"))
    if config == "t4":
        for actor in ACTORS:
            name = f"Video_Speech_{ravdess.person_of(actor)}.zip"
            site.put(manifests.load_manifest("ravdess").file(name).sources[0].url, draw_actor(actor))
    else:
        table = manifests.load_manifest("voxceleb").file(voxceleb.METADATA)
        site.put(table.sources[0].url, draw_voxceleb(copy / "notebooks/face_animation" / VIDEOS))


def draw_vgg19() -> bytes:
    """Keras's file of VGG19 without its dense layers, with random weights: a group a layer, named in attributes."""
    generator, channels, buffer = np.random.default_rng(0), 3, io.BytesIO()
    with h5py.File(buffer, "w") as file:
        names = []
        for block, (filters, count) in VGG19.items():
            for number in range(1, count + 1):
                names.append(f"block{block}_conv{number}")
                kernel = generator.standard_normal((3, 3, channels, filters), np.float32) * (2 / (9 * channels)) ** 0.5
                parts = {f"{names[-1]}_W_1:0": kernel, f"{names[-1]}_b_1:0": np.zeros(filters, np.float32)}
                group = file.create_group(names[-1])
                group.attrs["weight_names"] = [name.encode() for name in parts]
                for name, values in parts.items():
                    group[name] = values
                channels = filters
        file.attrs["layer_names"] = [name.encode() for name in names]
    return buffer.getvalue()


def draw_actor(actor: int) -> bytes:
    """An actor's archive: a wide clip of each of some emotions, without sound, and the same with sound."""
    buffer, person = io.BytesIO(), ravdess.person_of(actor)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(buffer, "w") as archive:
        items = [f"01-{emotion:02d}-01-01-01-{actor:02d}.mp4" for emotion in EMOTIONS]
        draw_all(partial(_draw_clip, folder=folder, actor=actor), items, what="clips", label="drawing clips", jobs=-1)
        for name in items:
            for modality in ("01", "02"):
                archive.write(Path(folder) / name, f"{person}/{modality}-{name}")
    return buffer.getvalue()


def _draw_clip(name: str, folder: str, actor: int) -> dict:
    frames = dataset.make_pair(actor, actor, seed=int(name[3:5]), size=180, frames=16).driving
    wide = [cv2.copyMakeBorder(frame, 0, 0, 70, 70, cv2.BORDER_REPLICATE) for frame in frames]
    return {"frames": video.write_video(Path(folder) / name, wide, 30)}


def draw_voxceleb(videos: Path) -> bytes:
    """Puppets' videos, as a user has them on the own disk; returns the table of their clips, with clips of one that is gone."""
    with tempfile.TemporaryDirectory() as folder:
        clips = dataset.make_dataset(folder, people=(7, 2), clips=2)
        originals.make_originals(videos, clips)
        return (Path(folder) / voxceleb.METADATA).read_bytes()
