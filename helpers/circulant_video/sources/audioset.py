"""AudioSet, YouTube-8M's sister of sounds: the official archive of its features. `data_manifests/audioset.yaml` has the facts."""

import gzip
import re
import shutil
import tarfile
import zlib
from pathlib import Path

from helpers.circulant_video.sources import vocabulary
from helpers.fetch import archives, manifests
from helpers.workspace import disk

FEATURES = "https://storage.googleapis.com/us_audioset/youtube_corpus/v1/features/features.tar.gz"
CLASSES = "https://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv/class_labels_indices.csv"
FOLDERS = {"bal_train": "train", "unbal_train": "train", "eval": "validation"}  # of its folders
NAME = re.compile(rf"(?:.*/)?({'|'.join(FOLDERS)})/([a-zA-Z0-9_-]{{2}})\.tfrecord")  # of YouTube's id


def fetch(folder: Path, *, cache: Path, **options: float) -> None:
    """Bring AudioSet's records to `folder/<bal_train, unbal_train, eval>/`; a folder that stands is not made again.

    Args:
        folder: where they go, 12 228 files of 3 GB.
        cache: folder of the archive (2.4 GB), which is not fetched if it lies there.
        **options: retries, timeout, backoff, max_wait of `manifests.fetch`.

    Raises:
        manifests.DownloadError: the archive could not be had; call again to go on.
        archives.ArchiveError: it is broken, or not AudioSet's.
    """
    if not folder.is_dir():
        file = manifests.load_manifest("audioset").file("features.tar.gz")
        _unpack(manifests.fetch(file, cache, **options), folder, file.unpacked_size)


def _unpack(archive: Path, folder: Path, max_bytes: int) -> None:
    """All records or none. `archives.extract` refuses this archive, in which eM.tfrecord and Em.tfrecord are two files."""
    scratch, left = folder.with_name(folder.name + ".unpacking"), max_bytes
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with disk.explain_disk_errors(folder), tarfile.open(archive) as opened:
            for member in opened:
                name = NAME.fullmatch(member.name)
                if name is None or not member.isreg():
                    continue
                if (left := left - member.size) < 0:
                    raise archives.ArchiveError(f"{archive.name} unpacks to more than the {max_bytes} bytes allowed")
                path = scratch / name[1] / f"{name[2]}.tfrecord"
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.exists():
                    raise archives.ArchiveError(
                        f"{archive.name} has {name[1]}/{path.name} twice: remove it and fetch it again, or, where the disk takes "
                        "eM and Em for one name, choose a workspace on another one (COURSE_WORKSPACE)"
                    )
                with path.open("xb") as file:
                    shutil.copyfileobj(opened.extractfile(member), file)
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise archives.ArchiveError(
            f"{archive.name} cannot be unpacked ({error}): remove it and fetch it again"
        ) from error
    if not scratch.is_dir():
        raise archives.ArchiveError(f"{archive.name} has no records in {', '.join(FOLDERS)}: is it AudioSet's?")
    disk.replace(scratch, folder)


def make_classes(path: Path) -> None:
    """Fetch AudioSet's class names and check that there are 527; a source of its manifest."""
    vocabulary.make_table(CLASSES, path, 527)


def make_features(path: Path) -> None:
    """Fetch AudioSet's features (2.4 GB); a source of its manifest."""
    manifests.fetch_url(FEATURES, path)
