"""The user's own files: what a file is, by its content; one walk through a folder; text in any encoding; what was left out and why.

Worker processes import this module, so it must never pull in TensorFlow or Keras.
"""

import codecs
import errno
import os
import re
import zipfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import google_crc32c
import pandas as pd

HEAD = 4096  # bytes that tell what a file is
VIDEO, PICTURE, RECORDS, TEXT, EMPTY, UNKNOWN = "video", "picture", "TFRecord file", "text", "empty file", "unknown"
SUFFIXES = {  # a hint only, for what its first bytes do not tell
    VIDEO: "3g2 3gp asf avi dv flv gif h264 m1v m2ts m2v m4v mjpeg mkv mov mp4 mpe mpeg mpg mts mxf ogg ogv ts vob webm wmv y4m",
    PICTURE: "avif bmp dib heic heif jfif jp2 jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp",
    RECORDS: "tfrecord tfrecords",
}
STARTS = (  # first bytes -> kind; the order counts
    (b"\xff\xd8\xff", PICTURE), (b"\x89PNG\r\n\x1a\n", PICTURE), (b"II*\0", PICTURE), (b"MM\0*", PICTURE),
    (b"\0\0\0\x0cjP  ", PICTURE), (b"GIF87a", VIDEO), (b"GIF89a", VIDEO), (b"\x1aE\xdf\xa3", VIDEO), (b"FLV\x01", VIDEO),
    (b"\0\0\x01\xba", VIDEO), (b"\0\0\x01\xb3", VIDEO), (b"OggS", VIDEO), (b"0&\xb2u\x8ef\xcf\x11", VIDEO), (b"YUV4MPEG2", VIDEO),
    (b"version https://git-lfs", "git-LFS pointer"), (b"\x1f\x8b", "gzip file"), (b"BZh", "bzip2 file"),
    (b"\xfd7zXZ\0", "xz file"), (b"(\xb5/\xfd", "zstandard file"), (b"Rar!\x1a\x07", "rar archive"),
    (b"7z\xbc\xaf'\x1c", "7-zip archive"), (b"\x89HDF\r\n\x1a\n", "HDF5 file"), (b"\x93NUMPY", "NumPy array"),
    (b"%PDF-", "PDF document"), (b"\0\x05\x16\x07", "macOS companion file"),
)  # fmt: skip
HINTS = {
    "git-LFS pointer": "it stands for a file that was not fetched: run `git lfs pull`, or download the file itself",
    "gzip file": "unpack it first", "zlib stream": "unpack it first", "bzip2 file": "unpack it first",
    "xz file": "unpack it first", "zstandard file": "unpack it first", "zip archive": "unpack it first",
    "tar archive": "unpack it first", "rar archive": "unpack it first", "7-zip archive": "unpack it first",
    "web page": "a server sent a page in place of the file, perhaps a login: download it again in a browser and look",
    EMPTY: "it was cut off or never written: get it again",
}  # fmt: skip
NOTES = {".txt", ".md", ".rst", ".html", ".htm", ".csv", ".tsv", ".json", ".log", ".pdf", ".doc", ".docx", ".xlsx"}
SYSTEM = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".tmp", ".temp", "~")
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLITS |= dict.fromkeys(("val", "valid", "validate", "validation", "dev"), "validation")
COLUMNS = ["file", "reason"]
NOTHING = pd.DataFrame(columns=COLUMNS)  # left out


def sniff(path: str | os.PathLike) -> str:
    """What a file is, from its first bytes: "video", "picture", "TFRecord file", "gzip file", "web page", "text" and so on.

    The suffix decides only where the content is "unknown". An animated GIF or WebP is a video. OSError: it cannot be read.
    """
    with Path(path).open("rb") as file:
        head = file.read(HEAD)
        size = os.fstat(file.fileno()).st_size
    kind = _kind(head, size)
    if kind == "zip archive" and _holds_pickle(path):
        kind = "torch checkpoint"
    suffix = Path(path).suffix.lower().removeprefix(".")
    hints = (name for name, suffixes in SUFFIXES.items() if kind == UNKNOWN and suffix in suffixes.split())
    return next(hints, kind)


def _kind(head: bytes, size: int) -> str:
    if not size:
        return EMPTY
    kind = next((kind for start, kind in STARTS if head.startswith(start)), None)
    for test in (_container, _records, _archive, _text):
        kind = kind or test(head)
    return kind or UNKNOWN


def _container(head: bytes) -> str | None:
    """Kinds that need more than the first bytes: RIFF, ISO media (MP4, AVIF, HEIC), BMP, MPEG transport stream, PNM."""
    if head[:4] == b"RIFF":
        moving = head[8:12] == b"AVI " or (head[8:16] == b"WEBPVP8X" and bool(ord(head[20:21] or b"\0") & 2))
        return VIDEO if moving else PICTURE if head[8:12] == b"WEBP" else "RIFF file"
    if head[4:8] == b"ftyp":
        return PICTURE if head[8:12] in (b"avif", b"heic", b"heix", b"mif1", b"msf1") else VIDEO
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return PICTURE
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
        return VIDEO
    packets = [start for start in (0, 4) if head[start : start + 1] == b"G"]
    if any(len(head) > 800 and {head[at + (188 + at) * n] for n in range(4)} == {0x47} for at in packets):
        return VIDEO
    return PICTURE if re.match(rb"P[1-6]\s+(#.*\s+)*\d+\s+\d+\s", head) else None


def _records(head: bytes) -> str | None:
    """A length of 8 bytes and its masked CRC-32C, as every TFRecord file begins."""
    crc = google_crc32c.value(head[:8])
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return RECORDS if len(head) >= 12 and masked == int.from_bytes(head[8:12], "little") else None


def _archive(head: bytes) -> str | None:
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip archive"
    if head[257:262] == b"ustar":
        return "tar archive"
    if re.match(rb"\x80[\x02-\x05]", head) and (head[1] < 4 or head[2:3] == b"\x95"):
        return "pickle"
    zlib_header = len(head) > 2 and head[0] == 0x78 and int.from_bytes(head[:2], "big") % 31 == 0
    return "zlib stream" if zlib_header and _encoding(head) is None else None


def _text(head: bytes) -> str | None:
    encoding = _encoding(head)
    if encoding is None:
        return None
    start = head.decode(encoding, "ignore").lstrip("\ufeff \t\r\n").lower()
    return "web page" if start.startswith(("<!doctype html", "<html", "<head", "<body")) else TEXT


def _encoding(head: bytes) -> str | None:
    """The encoding of text, or None for what is none. UTF-16 without its mark is told by its zero bytes."""
    for mark, name in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
                       (codecs.BOM_UTF16_BE, "utf-16")):  # fmt: skip
        if head.startswith(mark):
            return name
    if b"\0" in head:
        even, odd = head[0::2].count(0), head[1::2].count(0)
        few, many = sorted((even, odd))
        wide = many > 0.7 * (len(head) // 2) and few < 0.05 * (len(head) // 2)
        return ("utf-16-be" if even > odd else "utf-16-le") if wide and len(head) > 3 else None
    if re.search(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f]", head):
        return None
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # may end inside a character
    except UnicodeDecodeError:
        return "cp1252" if sum(byte < 128 for byte in head) > 0.7 * len(head) else None
    return "utf-8"


def _holds_pickle(path: str | os.PathLike) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, NotImplementedError):
        return False


def is_kind(path: str | os.PathLike, kind: str) -> bool:
    """Whether a file is of a kind by its content, or says so by its suffix, so that one which is broken is found, too."""
    return Path(path).suffix.lower().removeprefix(".") in SUFFIXES.get(kind, "").split() or sniff(path) == kind


def describe(path: str | os.PathLike) -> str:
    """What a file is and what to do about it, for an error: "a web page (a server sent ...)"; "" where nothing is known of it."""
    return _words(sniff(path))


def _words(kind: str) -> str:
    if kind in (UNKNOWN, TEXT, VIDEO, PICTURE, RECORDS):
        return "" if kind == UNKNOWN else f"a {kind}"
    hint = f" ({HINTS[kind]})" if kind in HINTS else ""
    return f"{'an' if kind[0].lower() in 'aehioux' else 'a'} {kind}{hint}"


def refuse(path: str | os.PathLike, expected: str, why: object = "") -> ValueError:
    """The error, to be raised, for a file that is not what is `expected`, such as "a Darknet .weights file".

    `why` is what was noticed, in case its first bytes do not tell more.
    """
    name, kind = Path(path).name, describe(path)
    found = f"is {kind}" if kind else f"({Path(path).stat().st_size} bytes) is none: {why}" if why else "is none"
    return ValueError(f"{shown(name)} {found}; expected {expected}")


def read_text(path: str | os.PathLike, *, expected: str = "a text file", errors: str = "strict") -> str:
    r"""A text file in UTF-8 or UTF-16 (PowerShell), with or without its mark, any line ends; lines end in \n.

    `errors="replace"` keeps lines with bytes that fit no encoding, so that only what stands there is lost.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no text, or a byte fits no encoding; names file and line.
    """
    content = Path(path).read_bytes()
    encoding = _encoding(content[:HEAD]) if content else "utf-8"
    if encoding is None or _kind(content[:HEAD], len(content)) not in (TEXT, EMPTY):
        raise refuse(path, expected)
    try:
        text = content.decode("utf-8" if encoding == "cp1252" else encoding, errors)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{shown(Path(path).name)}, line {line}: byte {content[error.start]:#04x} is not {error.encoding.upper()}; "
            "save the file as UTF-8"
        ) from None
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def shown(name: str) -> str:
    r"""A file name as it can be printed and written: bytes that are no UTF-8 as \x8c, control characters escaped."""
    name = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def walk(root: "str | os.PathLike | Walk", wanted: Collection[str]) -> "Walk":
    """Go through a folder and all folders in it, links followed once, and sort its files by what they are; a `Walk` stays as it is.

    `wanted` are kinds that `sniff` gives. FileNotFoundError: there is no such folder.
    """
    if isinstance(root, Walk):
        return root
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {shown(str(root))}")
    found = Walk(root)
    for path, skipped in entries(root):
        kind, reason = ("", skipped) if skipped else _look_at(root, path, wanted)
        if reason:
            found.leave_out(path.as_posix() + "/" * (root / path).is_dir(), reason)
        else:
            found.files[path] = kind
    return found


class Walk:
    """What `walk` found: `files`, paths from `root` with their kinds, in order of name, and a table of what was left out."""

    def __init__(self, root: Path) -> None:
        self.root, self.files, self._rows = root, {}, []

    def leave_out(self, file: str | os.PathLike, reason: str) -> None:
        """Add a row to the table; a file that was found is found no longer."""
        self.files.pop(Path(file), None)
        self._rows.append((shown(os.fspath(file)), reason))

    @property
    def left_out(self) -> pd.DataFrame:
        """`file` and `reason` of all that is not used, in order of name."""
        return pd.DataFrame(sorted(self._rows), columns=COLUMNS)

    def use(self, files: Iterable[str]) -> None:
        """Take files, as they stand in the table, out of it: they belong to what was found, such as labels."""
        files = set(files)
        self._rows = [row for row in self._rows if row[0] not in files]

    def first_reason(self) -> str:
        """For the error where nothing is left: how many files are of no use, and why the first; "" where there are none."""
        rows = sorted(self._rows)
        return f"; {len(rows)} files were left out, such as {rows[0][0]}: {rows[0][1]}" if rows else ""


def entries(root: Path) -> Iterator[tuple[Path, str]]:
    """Files below a folder as paths from it, and what is never looked into, each with the reason or "", in order of name."""
    seen = set()
    for place, folders, names in os.walk(root, followlinks=True):
        status = Path(place).stat()
        here = Path(place).relative_to(root)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            yield here, "a link to a folder that was looked through already"
            continue
        seen.add((status.st_dev, status.st_ino))
        for name in sorted(folders):
            if reason := _system(name):
                folders.remove(name)
                yield here / name, reason
        folders.sort()
        yield from ((here / name, _system(name)) for name in sorted(names))


def _system(name: str) -> str:
    if name.startswith(".") or name.lower() in SYSTEM or name.startswith("~$"):
        return "hidden, or of the system"
    return "unfinished, by its name" if name.lower().endswith(UNFINISHED) else ""


def _look_at(root: Path, path: Path, wanted: Collection[str]) -> tuple[str, str]:
    """Kind of a file, and why it is not used, "" if it is."""
    try:
        path.as_posix().encode()
    except UnicodeEncodeError:
        return "", "its name is not UTF-8: rename it"
    try:
        kind = sniff(root / path)
    except OSError as error:
        if error.errno == errno.EIO:  # the disk's fault, not the file's
            raise
        return "", f"cannot be read: {error.strerror or error}"
    if kind in wanted:
        return kind, ""
    return kind, f"{_words(kind) or 'of no kind that is known'}; used here: {', '.join(sorted(wanted))}"


def own_folders(files: Iterable[Path]) -> dict[Path, tuple[str, ...]]:
    """The folders that each file lies in, from the root, without those at the top that all files share and that hold others."""
    below = {path: path.parts[:-1] for path in files}
    while len({parts[:1] for parts in below.values()}) == 1 and all(len(parts) > 1 for parts in below.values()):
        below = {path: parts[1:] for path, parts in below.items()}
    return below


def split_of(name: str) -> str | None:
    """The side that a folder's name says ("train", "validation" or "test"), None for any other name."""
    return SPLITS.get(name.lower())


def tell(used: int, left_out: pd.DataFrame, *, what: str = "files") -> pd.DataFrame:
    """Print "N used, M left out" and return the table of what was left out: file and reason; a 00 notebook ends with it."""
    print(f"{used} {what} used, {len(left_out)} left out")
    return left_out[COLUMNS]


def with_errors(left_out: pd.DataFrame, items: pd.DataFrame, *, name: str = "path") -> pd.DataFrame:
    """What was left out, and the rows of a table of items whose `error` is not ""; `name` is the column with their file."""
    bad = items.loc[items["error"] != "", [name, "error"]].set_axis(COLUMNS, axis=1)
    return pd.concat([left_out[COLUMNS], bad], ignore_index=True)
