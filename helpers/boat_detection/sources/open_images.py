"""Open Images' annotation files: classes and their hierarchy, boxes and images out of CSV files of gigabytes."""

import contextlib
import difflib
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from csv import Error as CsvError
from csv import reader
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from helpers import intake
from helpers.fetch import manifests, streams
from helpers.workspace import disk

FLAGS = ("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside")  # 1 yes, 0 no, -1 unknown
EDGES = ("XMin", "XMax", "YMin", "YMax")  # in this order in the files; shares of width and height
BOX_COLUMNS = ("ImageID", "Source", "LabelName", "Confidence", *EDGES, *FLAGS)
IMAGE_COLUMNS = (
    *("ImageID", "Subset", "OriginalURL", "OriginalLandingURL", "License", "AuthorProfileURL", "Author", "Title"),
    *("OriginalSize", "OriginalMD5", "Thumbnail300KURL", "Rotation"),
)
BOXES, IMAGES = "train-annotations-bbox.csv", "train-images-boxable-with-rotation.csv"
CLASSES, TREE = "class-descriptions-boxable.csv", "bbox_labels_600_hierarchy.json"
NUMBER = rb",(-?\d*\.?\d+(?:[eE]-?\d+)?)"
TRANSFER = re.compile(r"https?://\S+(\t[1-9]\d*(\t[A-Za-z0-9+/]{22}==)?)?")
BOX = re.compile(
    rb"([^,\x00-\x1f]+,[^,\x00-\x1f]*,(/\w+/\w+),(?:\d+\.?\d*|\.\d+)"
    + 4 * NUMBER
    + rb"(?:,(?:-1|0|1)){5})((?:,[^,]*)*)"
)


def sources(subset: str) -> dict[str, str]:
    """Addresses of the annotation files of a subset, as the manifest has them: `boxes` and `images`."""
    manifest = manifests.load_manifest("open_images")
    return {kind: manifest.file(name).sources[0].url for kind, name in manifest.counts["subsets"][subset].items()}


def read_class_names(path: str | os.PathLike) -> dict[str, str]:
    """Class id (MID, such as "/m/019jd") -> name, in the file's order; with a header line (V6, V7) or without (V5).

    Raises:
        FileNotFoundError: no such file.
        ValueError: no text, a line is not an id and a name, or an id comes twice.
    """
    names = {}
    lines = intake.read_text(path, expected="a table of classes").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = next(reader([line], strict=True), [])
        except CsvError:
            row = []
        if number == 1 and row and not row[0].startswith("/"):
            continue
        if len(row) != 2 or not row[0].startswith("/") or row[0] in names:
            raise ValueError(f"{Path(path).name}, line {number}: found {line[:80]!r}; expected a new id and its name")
        names[row[0]] = row[1]
    return names


def find_class(names: Mapping[str, str], text: str) -> str:
    """The id of the class called `text`, in any case.

    Raises:
        ValueError: no such class; names the nearest ones.
    """
    ids = {name.casefold(): mid for mid, name in names.items()}
    wanted = " ".join(text.split()).casefold()
    if wanted not in ids:
        near = [names[ids[name]] for name in difflib.get_close_matches(wanted, ids, n=5)]
        raise ValueError(f"no class is called {text!r}; near: {', '.join(near) or 'none'} (of {len(names)} classes)")
    return ids[wanted]


def subclasses(hierarchy: str | os.PathLike, mid: str) -> list[str]:
    """`mid` and all kinds of it (parts are none), in the order of bbox_labels_600_hierarchy.json; ValueError if unknown."""
    text = intake.read_text(hierarchy, expected="the tree of classes")
    try:
        root = json.loads(text)
        nodes = [node for node in _below(root, "Subcategory", "Part") if node["LabelName"] == mid]
        found = list(dict.fromkeys(kind["LabelName"] for node in nodes for kind in _below(node, "Subcategory")))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{Path(hierarchy).name}: damaged, or no tree of classes ({error!r:.80}); fetch it again"
        ) from error
    if not nodes:
        raise ValueError(f"{Path(hierarchy).name} has no class {mid!r}; expected an id (see find_class)")
    return found


def _below(node: dict, *relations: str) -> Iterator[dict]:
    yield node
    for relation in relations:
        for child in node.get(relation, ()):
            yield from _below(child, *relations)


def filter_boxes(csv: streams.Csv, mids: str | Iterable[str], **options: float) -> pd.DataFrame:
    """The boxes of some classes, read in one pass and constant memory; nothing is stored.

    Args:
        csv: a box file of V4 to V7: its path (also of a .gz), its https address (a broken connection is taken up again), or
            an open binary file.
        mids: class id or ids, such as `subclasses` gives.
        **options: of `downloads.Patience`, for an address.

    Returns:
        The 13 columns that all versions share, in the file's order: ids as text, `Confidence, XMin, XMax, YMin, YMax`
        float32 in 0..1, flags int8. `.attrs` holds `source`, `rows` (of the file), `refused` (reason -> rows of these
        classes left out) and `problems` (the first 20 of them: line, reason, text).

    Raises:
        ValueError: the header is another, the file is damaged, or `mids` are no class ids.
        manifests.DownloadError: it could not be had.
    """
    mids = [mids] if isinstance(mids, str) else list(mids)
    if not mids or not all(mid.startswith("/") for mid in mids):
        raise ValueError(f"mids: received {mids}; allowed: class ids such as '/m/019jd' (see find_class)")
    wanted = {mid.encode() for mid in mids}
    text = re.compile(b',"?(?:' + b"|".join(map(re.escape, wanted)) + b')"?,')
    lines, found = streams.collect(
        csv, BOX_COLUMNS, partial(streams.lines_with, text), partial(_parse_box, wanted), options
    )
    types = dict.fromkeys(BOX_COLUMNS, "float32") | dict.fromkeys(BOX_COLUMNS[:3], str) | dict.fromkeys(FLAGS, "int8")
    table = b"\n".join([",".join(BOX_COLUMNS).encode(), *lines])
    boxes = pd.read_csv(io.BytesIO(table), dtype=types, na_filter=False)
    boxes.attrs.update(found)
    return boxes


def filter_images(csv: streams.Csv, ids: Iterable[str], **options: float) -> pd.DataFrame:
    """Address, author, licence and rotation of some images; like `filter_boxes`, from an images file.

    Returns:
        The file's 12 columns in its order: text, but for `OriginalSize` (Int64) and `Rotation` (float32, NaN where the
        original had vanished). `.attrs` as in `filter_boxes`, and `missing`: ids that the file does not have.
    """
    wanted = {name.encode() for name in ids}
    rows, found = streams.collect(
        csv, IMAGE_COLUMNS, partial(streams.lines_beginning_with, wanted), _parse_image, options
    )
    images = pd.DataFrame(rows, columns=list(IMAGE_COLUMNS), dtype=str)
    images["OriginalSize"] = pd.to_numeric(images["OriginalSize"], errors="coerce").astype("Int64")
    images["Rotation"] = pd.to_numeric(images["Rotation"], errors="coerce").astype("float32")
    images.attrs.update(found, missing=sorted({name.decode() for name in wanted} - set(images["ImageID"])))
    return images


def _parse_box(wanted: set[bytes], width: int, line: bytes) -> bytes | None:
    """The 13 columns of a line of `width` columns; None where it is of another class."""
    match = BOX.fullmatch(line.replace(b'"', b"") if b'"' in line else line)  # no field of these has a comma
    if match is None or match[7].count(b",") != width - len(BOX_COLUMNS):
        raise streams.Refused("malformed")
    if match[1].decode(errors="ignore").encode() != match[1]:
        raise streams.Refused("not UTF-8")
    if match[2] not in wanted:  # the text stands in another column
        return None
    x1, x2, y1, y2 = map(float, match.group(3, 4, 5, 6))
    if min(x1, y1) < 0 or max(x2, y2) > 1:
        raise streams.Refused("outside 0..1")
    if x2 <= x1 or y2 <= y1:
        raise streams.Refused("no area")
    return match[1]


def _parse_image(width: int, line: bytes) -> list[str]:
    with contextlib.suppress(UnicodeDecodeError, CsvError):
        row = next(reader([line.decode()], strict=True))
        if len(row) == width and re.fullmatch(r"[0-9]{0,15},(|nan|(0|90|180|270)(\.0)?)", f"{row[8]},{row[11]}"):
            return row[: len(IMAGE_COLUMNS)]
    raise streams.Refused("malformed")


def choose(ids: Iterable[str], count: int) -> list[str]:
    """The same `count` ids always, whatever their order: the first by SHA-256; all if there are fewer. More ids add to it."""
    return sorted(set(ids), key=lambda name: hashlib.sha256(name.encode()).digest())[: max(0, count)]


def write_transfer_list(rows: pd.DataFrame, path: str | os.PathLike) -> int:
    """Write what Google's Storage Transfer Service reads (`TsvHttpData-1.0`): address, bytes, MD5 in base64, in UTF-8 order.

    The originals then lie in the bucket under host and path of their address, not under the image id: keep `rows` (of
    `filter_images`). A line ends before what is unknown; what comes twice is written once. Returns the number of addresses.

    Raises:
        ValueError: an address, a size or an MD5 that cannot be.
    """
    columns = pd.DataFrame(rows)[["OriginalURL", "OriginalSize", "OriginalMD5"]]
    lines = {_transfer_line(*row) for row in columns.itertuples(index=False)}
    if wrong := [line for line in lines if not TRANSFER.fullmatch(line)]:
        raise ValueError(f"received {wrong[:3]}; expected an http address, its bytes, and its MD5 in base64")
    disk.write(path, "\n".join(["TsvHttpData-1.0", *sorted(lines, key=str.encode), ""]).encode())
    return len(lines)


def _transfer_line(*cells: Any) -> str:
    texts = ["" if pd.isna(cell) else str(cell).removesuffix(".0") for cell in cells]
    return re.sub(r"\t(\t.*)?$", "", "\t".join(texts))


def write_attribution(rows: pd.DataFrame, path: str | os.PathLike) -> None:
    """Write ATTRIBUTION.csv: title, author, licence and landing page of each image (`filter_images`), as CC BY asks for."""
    credits = rows[["ImageID", "Title", "Author", "AuthorProfileURL", "License", "OriginalLandingURL"]]
    disk.write_table(path, credits.sort_values("ImageID"))
