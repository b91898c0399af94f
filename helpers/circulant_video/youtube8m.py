"""YouTube-8M and its sister AudioSet: names of files, splits, downloads. `data_manifests/` has the facts on both."""

import gzip
import hashlib
import json
import os
import re
import shutil
import string
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import requests

from helpers import runtime
from helpers.circulant_video import data
from helpers.fetch import archives, downloads, manifests
from helpers.workspace import disk

LETTERS = string.ascii_lowercase + string.ascii_uppercase + string.digits
NAME = re.compile(r"(train|validate|test)(\d{4}|[a-zA-Z0-9]{2})\.tfrecord")
SHARDS = len(LETTERS) ** 2  # of each partition
PARTITIONS = (
    *(f"2/{kind}/{split}" for kind in ("frame", "video") for split in ("train", "validate", "test")),
    "3/frame/validate",
    "3/frame/test",
)
MIRRORS = ("us", "eu", "asia")
# data.yt8m.org and its mirrors are names of storage buckets; this address of theirs has a certificate.
BASE = "https://storage.googleapis.com"
VOCABULARY = "https://research.google.com/youtube8m/csv/2/vocabulary.csv"
AUDIOSET_FEATURES = "https://storage.googleapis.com/us_audioset/youtube_corpus/v1/features/features.tar.gz"
AUDIOSET_CLASSES = "https://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv/class_labels_indices.csv"
AUDIOSET_SIDES = {"bal_train": "train", "unbal_train": "train", "eval": "validation"}  # of its folders
AUDIOSET_NAME = re.compile(rf"(?:.*/)?({'|'.join(AUDIOSET_SIDES)})/([a-zA-Z0-9_-]{{2}})\.tfrecord")  # of YouTube's id


def parse_shard(name: str | os.PathLike) -> tuple[str, int]:
    """Partition and number of a file, in either form: trainpj.tfrecord and train0939.tfrecord are both ("train", 939).

    The server's names end in two characters; the official download script saves with four digits, letters first.

    Raises:
        ValueError: another name, or a number above 3843.
    """
    match = NAME.fullmatch(Path(name).name)
    code = match[2] if match else ""
    number = int(code) if len(code) == 4 else len(LETTERS) * LETTERS.find(code[:1]) + LETTERS.find(code[1:])
    if match is None or number >= SHARDS:
        raise ValueError(
            f"no YouTube-8M file: received {Path(name).name!r}; expected train, validate or test, two letters or digits "
            f"(trainpj.tfrecord) or a number of four digits up to {SHARDS - 1} (train0939.tfrecord); or AudioSet's folders "
            f"{', '.join(AUDIOSET_SIDES)} (eval/5v.tfrecord)"
        )
    return match[1], number


def to_digits(name: str | os.PathLike) -> str:
    """The name that the official script saves under: trainpj.tfrecord -> train0939.tfrecord."""
    return "{}{:04d}.tfrecord".format(*parse_shard(name))


def to_letters(name: str | os.PathLike) -> str:
    """The name on the server: train0939.tfrecord -> trainpj.tfrecord."""
    split, number = parse_shard(name)
    return f"{split}{LETTERS[number // len(LETTERS)]}{LETTERS[number % len(LETTERS)]}.tfrecord"


def split_shards(files: Iterable[str | os.PathLike], *, rule: str = "paper") -> dict[str, list[Path]]:
    """Who trains and who is held out, file by file.

    Args:
        files: TFRecord files: YouTube-8M's with names of either form, or AudioSet's in their folders, such as
            bal_train/5v.tfrecord, which the folder alone puts on a side.
        rule: "paper" trains on `train*` and on `validate[A-Za-z]*` (0000 to 3223) and holds out the other 620 validate files
            (3224 to 3843); "official" holds out all of them.

    Returns:
        "train", "validation" and "test" -> files in order of number. YouTube-8M's test files have no labels.

    Raises:
        ValueError: a name that is no shard's, an unknown rule, or a shard that is there twice.
    """
    if rule not in ("paper", "official"):
        raise ValueError(f"rule: received {rule!r}; allowed: paper, official")
    first_held_out = len(LETTERS) * 52 if rule == "paper" else 0
    sides: dict[str, list[Path]] = {"train": [], "validation": [], "test": []}
    found: dict[tuple, Path] = {}
    for path in map(Path, files):
        audioset = AUDIOSET_NAME.fullmatch(path.as_posix())
        key = audioset.groups() if audioset else parse_shard(path)
        if key in found:
            raise ValueError(f"{found[key]} and {path} are the same shard: remove one of them")
        found[key] = path
    for (part, number), path in sorted(found.items()):
        held_out = part == "validate" and number >= first_held_out
        side = "test" if part == "test" else "validation" if held_out else "train"
        sides[AUDIOSET_SIDES.get(part, side)].append(path)
    return sides


def select_shards(names: Iterable[str], part: int, of: int) -> list[str]:
    """The names that the official script takes with `shard=part,of`: md5(name) modulo `of` is part - 1.

    Args:
        names: names on the server, with two characters.
        part: from 1 to `of`.
        of: number of parts; 1000 takes about 4 files of a partition.
    """
    if not 1 <= part <= of:
        raise ValueError(f"shard: received {part},{of}; allowed: 1,{of} to {of},{of}")
    return sorted(name for name in names if int(hashlib.md5(name.encode()).hexdigest(), 16) % of == part - 1)


def read_plan(text: str) -> dict[str, str]:
    """Name -> MD5 from a download plan, JSON in the form `{name: md5}` or `{"files": {name: md5}}`.

    Raises:
        ValueError: no plan, or names or checksums that cannot be.
    """
    try:
        plan = json.loads(text)
        plan = plan.get("files", plan)
        wrong = [
            name for name, md5 in plan.items() if not (NAME.fullmatch(name) and re.fullmatch(r"[0-9a-f]{32}", md5))
        ]
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"no download plan: received {text[:60]!r}; expected JSON of file names and MD5s") from error
    if wrong or not plan:
        raise ValueError(
            f"no download plan: received {wrong[:3] or 'no file'}; expected names such as trainpj.tfrecord"
        )
    return plan


def fetch_shards(
    partition: str,
    folder: str | os.PathLike,
    *,
    shard: tuple[int, int],
    mirror: str = "us",
    base: str = BASE,
    **options: float,
) -> list[Path]:
    """Bring some files of a partition to `folder` under their four-digit names, each checked by its MD5.

    A file that stands there in either form is not asked for again, and an interrupted one continues.

    Args:
        partition: such as "2/frame/train" (250 MB a file) or "2/video/train" (5 MB a file).
        folder: where they go.
        shard: (part, of), see `select_shards`.
        mirror: "us", "eu" or "asia".
        base: server of the buckets.
        **options: retries, timeout, backoff, max_wait of `manifests.fetch`.

    Returns:
        All files selected, in order.

    Raises:
        ValueError: an unknown partition or mirror, or a part that does not exist.
        manifests.DownloadError: some could not be had; call again to fetch the rest.
    """
    for key, value, allowed in (("partition", partition, PARTITIONS), ("mirror", mirror, MIRRORS)):
        if value not in allowed:
            raise ValueError(f"{key}: received {value!r}; allowed: {', '.join(allowed)}")
    plan = _fetch_plan(partition, Path(folder) / ".fetching", base, options)
    paths, failures = [], []
    for name in runtime.progress(select_shards(plan, *shard), label=partition, unit="file"):
        there = [path for path in (Path(folder) / name, Path(folder) / to_digits(name)) if path.is_file()]
        paths.append(there[0] if there else Path(folder) / to_digits(name))
        if not there:
            url = f"{base}/{mirror}.data.yt8m.org/{partition}/{name}"
            try:
                _fetch_checked(url, Path(folder) / ".fetching" / name, paths[-1], plan[name], partition, options)
            except manifests.DownloadError as error:
                failures.append(error)
    if failures:
        raise manifests.DownloadError(
            f"{len(failures)} of {len(paths)} files could not be fetched; call again to fetch them. The first: {failures[0]}"
        )
    return paths


def _fetch_plan(partition: str, folder: Path, base: str, options: dict) -> dict[str, str]:
    release, kind, split = partition.split("/")
    path = folder / f"{release}_{kind}_{split}.json"
    if not path.is_file():
        text = fetch_text(f"{base}/data.yt8m.org/{release}/download_plans/{kind}_{split}.json", **options)
        read_plan(text)
        with disk.atomic_write(path) as file:
            file.write(text.encode())
    return read_plan(path.read_text(encoding="utf-8"))


def _fetch_checked(url: str, temporary: Path, path: Path, md5: str, partition: str, options: dict) -> None:
    fetch_file(
        url, temporary, by_hand=f"curl data.yt8m.org/download.py | partition={partition} mirror=us python", **options
    )
    with temporary.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != md5:
        temporary.unlink()
        raise manifests.DownloadError(f"{url}: found MD5 {found}, expected {md5}")
    temporary.replace(path)


def _ask(url: str, method: str, options: dict) -> requests.Response:
    patience = downloads.Patience(**options)
    with downloads.Session(patience.timeout) as session:
        try:
            return patience.insist(lambda: session.request(method, url, allow_redirects=True))
        except downloads.SourceFailed as error:
            raise manifests.DownloadError(f"{url}: {error}") from error


def fetch_text(url: str, **options: float) -> str:
    """A small text file from its server, whose size nobody knows beforehand.

    Raises:
        manifests.DownloadError: it could not be had.
    """
    return _ask(url, "GET", options).content.decode("utf-8")


def fetch_file(url: str, path: Path, *, by_hand: str = "", **options: float) -> Path:
    """Fetch a large file of which only the address is known: the server tells its size first, which is checked in the end.

    Raises:
        manifests.DownloadError: it could not be had.
    """
    length = _ask(url, "HEAD", options).headers.get("Content-Length", "")
    if not length.isdigit() or int(length) == 0:
        raise manifests.DownloadError(
            f"{url}: the server does not say how large it is. By hand: {by_hand or 'a browser'}"
        )
    file = manifests.File(path.name, (manifests.Source(url=url),), size=int(length), by_hand=by_hand)
    return manifests.fetch(file, path.parent, **options)


def fetch_audioset(folder: Path, *, cache: Path, **options: float) -> None:
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
                name = AUDIOSET_NAME.fullmatch(member.name)
                if name is None or not member.isreg():
                    continue
                if (left := left - member.size) < 0:
                    raise archives.ArchiveError(f"{archive.name} unpacks to more than the {max_bytes} bytes allowed")
                path = scratch / name[1] / f"{name[2]}.tfrecord"
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as file:
                    shutil.copyfileobj(opened.extractfile(member), file)
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile, FileExistsError) as error:
        raise archives.ArchiveError(
            f"{archive.name} cannot be unpacked ({error}): remove it and fetch it again, or, where the disk takes eM and Em "
            "for one name, choose a workspace on another one (COURSE_WORKSPACE)"
        ) from error
    if not scratch.is_dir():
        raise archives.ArchiveError(f"{archive.name} has no records in {', '.join(AUDIOSET_SIDES)}: is it AudioSet's?")
    scratch.rename(folder)


def make_vocabulary(path: Path) -> None:
    """Fetch YouTube-8M's vocabulary and check that it has 3862 labels; a source of its manifest."""
    _make_table(VOCABULARY, path, 3862)


def make_audioset_classes(path: Path) -> None:
    """Fetch AudioSet's class names and check that there are 527; a source of its manifest."""
    _make_table(AUDIOSET_CLASSES, path, 527)


def make_audioset_features(path: Path) -> None:
    """Fetch AudioSet's features (2.4 GB); a source of its manifest."""
    fetch_file(AUDIOSET_FEATURES, path)


def _make_table(url: str, path: Path, classes: int) -> None:
    path.write_bytes(fetch_text(url).encode())
    data.read_vocabulary(path, classes=classes)
