"""GRID: archives of its official record -> clips and word times -> the manifest table.

A file's name tells its sentence: `bbaf2n` is "bin blue at f two now". Its alignment tells when each word is said.
"""

import contextlib
import hashlib
import json
import os
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from helpers import intake
from helpers.fetch import archives, manifests
from helpers.lip_reading.sources.local import COLUMNS

SITE = "https://zenodo.org"
RECORD = 3625687
FPS = 25
UNIT = 25_000  # of the times in an alignment, per second
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WORDS = {
    "command": {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    "colour": {"b": "blue", "g": "green", "r": "red", "w": "white"},
    "preposition": {"a": "at", "b": "by", "i": "in", "w": "with"},
    "letter": {letter: letter for letter in "abcdefghijklmnopqrstuvxyz"},  # no w, the only one of three syllables
    "digit": dict(zip("z123456789", DIGITS, strict=True)),
    "adverb": {"a": "again", "n": "now", "p": "please", "s": "soon"},
}
NAME = re.compile("(?:.*_)?" + "".join(f"([{''.join(codes)}])" for codes in WORDS.values()))


def parse_name(name: str) -> dict[str, str]:
    """The words of a sentence from its file's name, by slot: "bbaf2n" gives command "bin", ...; ValueError: not a name of GRID."""
    found = NAME.fullmatch(Path(name).stem)
    if found is None:
        allowed = "six characters such as bbaf2n (bin blue at f 2 now)"
        raise ValueError(f"name: received {Path(name).name!r}; allowed: {allowed}")
    return {slot: codes[code] for (slot, codes), code in zip(WORDS.items(), found.groups(), strict=True)}


def read_align(path: str | os.PathLike) -> pd.DataFrame:
    """The six words of an alignment in small letters, pauses ("sil", "sp") left out: rows of start, end (seconds), word.

    Raises:
        ValueError: a line of another form, times that run backwards, or another number of words.
    """
    rows = []
    for number, line in enumerate(intake.read_text(path, expected="an alignment").split("\n"), 1):
        parts = line.split()
        if not parts:
            continue
        times = len(parts) == 3 and all(re.fullmatch("[0-9]{1,12}", part) for part in parts[:2])
        if not times or int(parts[1]) < int(parts[0]):
            raise ValueError(f"{Path(path).name}, line {number}: received {line[:80]!r}; allowed: start end word")
        if parts[2].lower() not in ("sil", "sp"):
            rows.append((int(parts[0]) / UNIT, int(parts[1]) / UNIT, parts[2].lower()))
    if len(rows) != len(WORDS):
        raise ValueError(f"{Path(path).name}: received {len(rows)} words; allowed: {len(WORDS)}, one for each slot")
    return pd.DataFrame(rows, columns=["start", "end", "word"])


def match_alignments(clips: dict[str, set[str]], aligned: dict[str, set[str]]) -> dict[str, str]:
    """The alignment folder of each talker: the one that shares most sentences, if that is at least half of the talker's.

    The record has some folders under the name of another talker, whose sentences are others; a wrong folder would give
    hardly any alignment, and wrong times where two talkers happen to say the same. Both arguments: names of sentences by folder.
    """
    found = {}
    for talker, names in clips.items():
        own_first = sorted(aligned, key=lambda folder: (-len(names & aligned[folder]), folder != talker, folder))
        if own_first and 2 * len(names & aligned[own_first[0]]) >= len(names):
            found[talker] = own_first[0]
    return found


def read_table(root: str | os.PathLike, *, slot: str = "colour", margin: int = 3) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The manifest table of one word per sentence, and what could not be used.

    Args:
        root: folder with `<talker>/<sentence>.mpg` and `<talker>/<sentence>.align`, at any depth.
        margin: frames kept before and after the word: lips move before one hears them.

    Returns:
        The table of `local.find_clips`, start and end with the margin, and a table of file and reason of what cannot be used.

    Raises:
        ValueError: no such slot, or not one sentence can be used.
    """
    if slot not in WORDS:
        raise ValueError(f"slot: received {slot!r}; allowed: {', '.join(WORDS)}")
    clips, aligned = (_by_folder(Path(root), suffix) for suffix in (".mpg", ".align"))
    folders = match_alignments(*({key: set(files) for key, files in found.items()} for found in (clips, aligned)))
    rows, problems = [], []
    for talker, files in clips.items():
        for name, path in files.items():
            row = {"path": path.relative_to(root).as_posix(), "speaker": talker}
            try:
                rows.append(row | _word(path, aligned.get(folders.get(talker, ""), {}).get(name), slot, margin))
            except ValueError as error:
                problems.append({"file": row["path"], "reason": str(error)})
    if not rows:
        why = problems[0]["reason"] if problems else "no .mpg"
        raise ValueError(f"no sentence of GRID with its alignment below {root}: {why}")
    table = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("path", ignore_index=True)
    return table, pd.DataFrame(problems, columns=intake.COLUMNS)


def _word(path: Path, align: Path | None, slot: str, margin: int) -> dict:
    word = parse_name(path.name)[slot]
    if align is None:
        raise ValueError("no alignment of this sentence")
    told = read_align(align).iloc[list(WORDS).index(slot)]
    if told["word"] != word:
        raise ValueError(f"the name says {word}, the alignment {told['word']}")
    start, end = max(0.0, told["start"] - margin / FPS), told["end"] + margin / FPS
    return {"label": word, "split": "", "frames": round((end - start) * FPS), "fps": FPS, "start": start, "end": end}


def _by_folder(root: Path, suffix: str) -> dict[str, dict[str, Path]]:
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(root.rglob(f"*{suffix}")):
        parts = path.relative_to(root).parts
        if path.is_file() and not any(part.startswith((".", "__")) for part in parts):
            found.setdefault(path.parent.name, {})[path.stem] = path
    return found


def fetch(
    folder: str | os.PathLike, speakers: Sequence[int], *, clips: int | None = None, cache: str | os.PathLike,
    **options: float,
) -> None:  # fmt: skip
    """Bring alignments and talkers to `folder`; what is there already is kept.

    Args:
        folder: gets `alignments/` and `s1/`, `s2/`, ...
        clips: so many sentences of each, chosen at random but always the same, taken out of the archives one by one where
            the server sends parts; None fetches whole archives (about 0.5 GB each).
        cache: folder of the archives, where they may lie already.
        **options: retries, timeout, backoff, max_wait of `manifests.fetch`.

    Raises:
        manifests.DownloadError: an archive could not be had.
        archives.ArchiveError: an archive is broken.
        RuntimeError: clips that could not be had, with the first reason.
    """
    folder, manifest = Path(folder), manifests.load_manifest("grid")
    _unpack(manifest.file("alignments.zip"), folder / "alignments", cache, None, options)
    for number in speakers:
        file, target = manifest.file(f"s{number}.zip"), folder / f"s{number}"
        if clips is not None and not (Path(cache) / file.name).is_file():
            with contextlib.suppress(archives.RangesNotSupported):
                _fetch_some(file, target, clips, options)
                continue
        _unpack(file, target, cache, clips, options)


def choose(names: Iterable[str], clips: int | None) -> list[str]:
    """The clips of an archive, or `clips` of them: those whose names have the smallest SHA-256, whatever the others are."""
    names = [name for name in names if name.lower().endswith((".mpg", ".align")) and not name.startswith("__MACOSX/")]
    ranked = sorted(names, key=lambda name: hashlib.sha256(Path(name).name.encode()).digest())
    return sorted(ranked[:clips])


def _fetch_some(file: manifests.File, target: Path, clips: int, options: dict) -> None:
    remote, names = _remote_file(file.name, options), []
    archives.fetch_members(remote, target, wanted=lambda name: names.append(name), **options)  # None: takes nothing
    table = archives.fetch_members(remote, target, wanted=choose(names, clips), **options)
    failed = table[table["error"] != ""]
    if len(failed):
        reason = failed.iloc[0]["error"]
        raise RuntimeError(f"{len(failed)} of {len(table)} clips of {file.name} could not be had: {reason}; call again")


def _unpack(file: manifests.File, target: Path, cache: str | os.PathLike, clips: int | None, options: dict) -> None:
    if target.is_dir() and any(target.iterdir()):  # it gets its name when it is whole
        return
    archive, members = manifests.fetch(file, cache, **options), None
    if zipfile.is_zipfile(archive):  # else `extract` says what is wrong
        with zipfile.ZipFile(archive) as opened:
            members = choose(opened.namelist(), clips)
    archives.extract(archive, target, members=members, max_bytes=file.unpacked_size)


def make_archive(path: Path) -> None:
    """Fetch the archive that `path` is named after (`s1.zip`), checked by the record's MD5; a source of the manifest."""
    name = path.name.removesuffix(".unverified")
    file, md5 = _remote_file(name, {}), _record({})[name][1]
    by_hand = f"open {SITE}/records/{RECORD}, take {name}"
    entry = manifests.File(path.name, file.sources, size=file.size, md5=md5 or None, by_hand=by_hand)
    manifests.fetch(entry, path.parent)


def _remote_file(name: str, options: dict) -> manifests.File:
    files = _record(options)
    if name not in files:
        raise manifests.DownloadError(f"record {RECORD} of {SITE} has no {name}; it has: {', '.join(sorted(files))}")
    source = manifests.Source(url=f"{SITE}/records/{RECORD}/files/{name}")
    bound = manifests.load_manifest("grid").file(name).unpacked_size
    return manifests.File(name, (source,), size=files[name][0], kind="zip", unpacked_size=bound)


def _record(options: dict) -> dict[str, tuple[int, str]]:
    """Size and MD5 ("" if untold) of the record's files, as the record says."""
    url, found = f"{SITE}/api/records/{RECORD}", {}
    told = manifests.ask(url, **options).content
    try:
        for file in json.loads(told)["files"]:
            md5 = re.fullmatch(r"(?:md5:)?([0-9a-f]{32})", str(file.get("checksum", "")))
            found[file["key"]] = (int(file["size"]), md5[1] if md5 else "")
        return found
    except (ValueError, KeyError, TypeError) as error:
        raise manifests.DownloadError(f"{url}: {error}") from error
