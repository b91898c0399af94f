"""The UCF101 data set: its official lists and its clips, as `data_manifests/ucf101.yaml` describes them."""

import shutil
from pathlib import Path

import pandas as pd

from helpers.fetch import archives, manifests
from helpers.temporal_coherence.data import parse_name
from helpers.workspace import disk

ZIP = "UCF101_videos.zip"


def read_lists(folder: Path, fold: int) -> tuple[list[str], ...]:
    """Training and test clips of one fold, `Class/name.avi`, from the official lists without the labels; CRLF or LF."""
    texts = (Path(folder, f"{side}list{fold:02d}.txt").read_text(encoding="utf-8") for side in ("train", "test"))
    return tuple([line.split()[0] for line in text.split("\n") if line.strip()] for text in texts)


def clip_key(path: str) -> str:
    """What identifies a clip across releases: file stem in lower case (HandStandPushups is written in two ways)."""
    return Path(path).stem.lower()


def class_table() -> pd.DataFrame:
    """The packed lists: class, label (official, from 1), name_in_files, and the clips of groups g01 to g25."""
    return pd.read_csv(manifests.load_manifest("ucf101").lists[0].path)


def official_lists(fold: int) -> tuple[list[str], list[str]]:
    """Training and test clips of one official fold, `Class/v_Class_gGG_cCC.avi`: fold k tests on groups 7k-6 to 7k."""
    train, test = [], []
    for row in class_table().to_dict("records"):
        for group in range(1, 26):
            side = test if 7 * fold - 6 <= group <= 7 * fold else train
            clips = range(1, row[f"g{group:02d}"] + 1)
            side += [f"{row['class']}/v_{row['name_in_files']}_g{group:02d}_c{clip:02d}.avi" for clip in clips]
    return train, test


def fetch_clips(
    root: Path, classes: tuple[str, ...], *, cache: Path, manifest: manifests.Manifest | None = None
) -> None:
    """Bring the clips of some classes to `root/<Class>/`, class by class; a class that stands there is not asked for again.

    Only these clips are taken out of the zip on its server. Where that is not possible the whole archive is fetched to `cache`.

    Args:
        root: folder of the classes.
        classes: names of classes; empty takes all 101.
        cache: folder for whole archives, used first if one lies there.
        manifest: description of the data set; default UCF101's.

    Raises:
        ValueError: unknown classes.
        manifests.DownloadError: clips could not be had; call again to fetch the rest.
    """
    manifest = manifest or manifests.load_manifest("ucf101")
    known = class_table()["class"].tolist()
    unknown = [name for name in classes if name not in known]
    if unknown:
        raise ValueError(f"classes: received {', '.join(unknown)}; allowed: {', '.join(known)}")
    wanted = [name for name in classes or known if not (root / name).is_dir()]
    archive = next((cache / file.name for file in manifest.files if (cache / file.name).is_file()), None)
    try:
        for name in wanted if archive is None else ():
            _fetch_class(root, name, manifest.file(ZIP))
    except archives.RangesNotSupported:
        archive = cache / ZIP
    wanted = [name for name in wanted if not (root / name).is_dir()]
    if wanted and archive is not None:
        _unpack_classes(root, wanted, cache, manifest)


def _belongs(name: str):
    """A test of an archive's member: is it a clip of this class? Upper and lower case differ between releases."""
    return lambda member: member.endswith(".avi") and parse_name(member)[0].lower() == name.lower()


def _fetch_class(root: Path, name: str, file: manifests.File) -> None:
    folder = root / ".fetching" / name
    table = archives.fetch_members(file, folder, wanted=_belongs(name))
    failed = table[table["error"] != ""]
    if len(failed):
        raise manifests.DownloadError(
            f"{name}: {len(failed)} of {len(table)} clips could not be fetched; call again to fetch the rest. "
            f"The first is {failed['member'].iloc[0]}: {failed['error'].iloc[0]}"
        )
    _place(root, name, [folder / member for member in table["member"]])
    shutil.rmtree(folder)


def _place(root: Path, name: str, clips: list[Path]) -> None:
    """Give a class's clips their folder in one rename."""
    if not clips:
        raise manifests.DownloadError(f"the archive holds no clip of class {name}: leave the class out of `classes`")
    gathered = root / ".fetching" / f"{name}.whole"
    gathered.mkdir(parents=True, exist_ok=True)
    for clip in clips:
        disk.replace(clip, gathered / clip.name)
    disk.replace(gathered, root / name)


def _unpack_classes(root: Path, classes: list[str], cache: Path, manifest: manifests.Manifest) -> None:
    names = [ZIP] if not (cache / "UCF101.rar").is_file() else ["UCF101.rar"]
    (path,) = manifests.fetch_all(manifest, cache, names=names).values()
    folder = root / ".fetching" / "archive"
    shutil.rmtree(folder, ignore_errors=True)
    wanted = [_belongs(name) for name in classes]
    most = manifest.file(path.name).unpacked_size
    clips = archives.extract(path, folder, members=lambda name: any(test(name) for test in wanted), max_bytes=most)
    for name, test in zip(classes, wanted, strict=True):
        _place(root, name, [clip for clip in clips if test(clip.name)])
    shutil.rmtree(folder)
