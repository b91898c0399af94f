"""YouTube-8M: names of its files, and their download. `data_manifests/youtube8m.yaml` has the facts."""

import hashlib
import json
import os
import re
import string
from collections.abc import Iterable
from pathlib import Path

from helpers import runtime
from helpers.circulant_video.sources import vocabulary
from helpers.fetch import manifests
from helpers.workspace import disk

LETTERS = string.ascii_lowercase + string.ascii_uppercase + string.digits
NAME = re.compile(r"(train|validate|test)(\d{4}|[a-zA-Z0-9]{2})\.tfrecord")
SHARDS = len(LETTERS) ** 2  # of each partition
# data.yt8m.org and its mirrors are names of storage buckets; this address of theirs has a certificate.
BASE = "https://storage.googleapis.com"
VOCABULARY = "https://research.google.com/youtube8m/csv/2/vocabulary.csv"


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
            f"bal_train, unbal_train, eval (eval/5v.tfrecord)"
        )
    return match[1], number


def to_digits(name: str | os.PathLike) -> str:
    """The name that the official script saves under: trainpj.tfrecord -> train0939.tfrecord."""
    return "{}{:04d}.tfrecord".format(*parse_shard(name))


def to_letters(name: str | os.PathLike) -> str:
    """The name on the server: train0939.tfrecord -> trainpj.tfrecord."""
    split, number = parse_shard(name)
    return f"{split}{LETTERS[number // len(LETTERS)]}{LETTERS[number % len(LETTERS)]}.tfrecord"


def select_shards(names: Iterable[str], part: int, of: int) -> list[str]:
    """The names that the official script takes with `shard=part,of`: md5(name) modulo `of` is part - 1.

    `names` are the server's, `part` is 1 to `of`; 1000 parts are about 4 files of a partition each.
    """
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


def list_files(
    partition: str, folder: str | os.PathLike, *, shard: tuple[int, int], mirror: str, base: str = BASE,
    **options: float,
) -> list[manifests.File]:  # fmt: skip
    """Some files of a partition, in order, with their four-digit names, addresses and MD5s.

    Args:
        partition: such as "2/frame/train" (250 MB a file) or "2/video/train" (5 MB a file).
        folder: where the server's list of them stays.
        shard: (part, of), see `select_shards`.
        **options: retries, timeout, backoff, max_wait of `manifests.fetch`.

    Raises:
        manifests.DownloadError: the list could not be had.
    """
    plan = _fetch_plan(partition, Path(folder) / ".fetching", base, options)
    place = f"{base}/{mirror}.data.yt8m.org/{partition}"
    return [make_entry(to_digits(name), f"{place}/{name}", plan[name]) for name in select_shards(plan, *shard)]


def make_entry(name: str, url: str, md5: str) -> manifests.File:
    """What is to be fetched, for `manifests.fetch`."""
    by_hand = f"curl data.yt8m.org/download.py | partition={'/'.join(url.split('/')[-4:-1])} mirror=us python"
    return manifests.File(name, (manifests.Source(url=url),), md5=md5, by_hand=by_hand)


def fetch_shards(entries: Iterable[manifests.File], folder: str | os.PathLike, **options: float) -> list[Path]:
    """Bring files of `list_files` to `folder`, each checked by its MD5.

    A file that stands there, under its own name or the server's, is not asked for again, and an interrupted one continues.
    `options` are retries, timeout, backoff, max_wait of `manifests.fetch`.

    Raises:
        manifests.DownloadError: some could not be had; call again to fetch the rest.
    """
    paths, failures = [], []
    for entry in runtime.progress(list(entries), label="shards", unit="file"):
        own = Path(folder) / to_letters(entry.name)
        paths.append(own if own.is_file() else Path(folder) / entry.name)
        if not paths[-1].is_file():
            try:
                manifests.fetch(entry, folder, **options)
            except manifests.DownloadError as error:
                failures.append(str(error))
    stop_at_failures(failures, len(paths))
    return paths


def stop_at_failures(failures: list[str], count: int) -> None:
    """Raise a DownloadError where some of `count` files could not be had; `failures` say why."""
    if failures:
        raise manifests.DownloadError(
            f"{len(failures)} of {count} files could not be fetched; call again to fetch them. The first: {failures[0]}"
        )


def to_look_at(entries: list[manifests.File]) -> list[manifests.File]:
    """The few files that the notebooks open where all others are converted as they come: the first eight and the last."""
    return [*entries[:8], *entries[8:][-1:]]


def _fetch_plan(partition: str, folder: Path, base: str, options: dict) -> dict[str, str]:
    release, kind, split = partition.split("/")
    path = folder / f"{release}_{kind}_{split}.json"
    if not path.is_file():
        url = f"{base}/data.yt8m.org/{release}/download_plans/{kind}_{split}.json"
        text = manifests.ask(url, **options).content.decode("utf-8")
        read_plan(text)
        disk.write(path, text.encode())
    return read_plan(path.read_text(encoding="utf-8"))


def make_vocabulary(path: Path) -> None:
    """Fetch YouTube-8M's vocabulary and check that it has 3862 labels; a source of its manifest."""
    vocabulary.make_table(VOCABULARY, path, 3862)
