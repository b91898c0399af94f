"""Draws a small Open Images in the genuine on-disk format: harbours with boats and what only looks like boats, in seconds.

With the originals' names, columns and oddities: ids that look like numbers, unknown flags, titles with commas, pictures that lie
on their side, downloads that broke. Pictures of one author share place and light.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from helpers import video
from helpers.boat_detection.mini import harbour, scenes
from helpers.boat_detection.sources import open_images
from helpers.drawing.chance import pick
from helpers.drawing.files import draw_all
from helpers.workspace import disk

MIDS = {  # display name -> Open Images' id, in the order of the official list of boxable classes
    "Bird": "/m/015p6", "Boat": "/m/019jd", "Surfboard": "/m/019w40", "Barge": "/m/01btn", "Tower": "/m/01fdzj",
    "Tent": "/m/01j61q", "Billboard": "/m/01knjb", "Land vehicle": "/m/01prls", "Watercraft": "/m/01rzcn",
    "Jet ski": "/m/01xs3r", "Gondola": "/m/02068x", "House": "/m/03jm5", "Lighthouse": "/m/04h7h", "Mammal": "/m/04rky",
    "Sports equipment": "/m/05y5lj", "Submarine": "/m/074d1", "Vehicle": "/m/07yv9", "Whale": "/m/084zz", "Duck": "/m/09ddx",
    "Building": "/m/0cgh4", "Swan": "/m/0dftk", "Marine mammal": "/m/0gd2v", "Animal": "/m/0jbk", "Car": "/m/0k4j",
    "Canoe": "/m/0ph39",
}  # fmt: skip
HIERARCHY = {  # name -> what it contains; the root, "Entity" (/m/0bl9f), has no row in the list of classes
    "Tent": {}, "Billboard": {}, "Building": {"Lighthouse": {}, "Tower": {}, "House": {}},
    "Sports equipment": {"Surfboard": {}},
    "Animal": {"Bird": {"Duck": {}, "Swan": {}}, "Mammal": {"Marine mammal": {"Whale": {}}}},
    "Vehicle": {
        "Land vehicle": {"Car": {}},
        "Watercraft": {"Boat": {"Barge": {}, "Gondola": {}, "Canoe": {}}, "Jet ski": {}, "Submarine": {}},
    },
}  # fmt: skip
CLICKS = tuple(f"XClick{number}{axis}" for axis in "XY" for number in range(1, 5))
BROKEN = {"5e1d0f3a7b9c2e44": "cut", "a7740e19c5d83b62": "page"}  # half a JPEG; a page of HTML
DEGENERATE = "3c90b1f2e6d7a855"  # has one box more, without width
AWKWARD = ("0000000000000042", "000e712345678901", "1234567890123e45", "9007199254740993")  # not numbers
IMAGES_PER_AUTHOR = 6
JPEG_QUALITY = 82
PAGE = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>This photo is gone.</body></html>\n"

_FIRST = (
    "Jürgen", "Zoë", "Łukasz", "María", "Åsa", "Nguyễn", "François", "Ioana", "Søren", "Anna", "Émile", "Kofi", "Дарья", "明",
)  # fmt: skip
_LAST = (
    "Östberg", "Ibáñez", "Żak", "O'Neill", "van der Meer", "Kaya", "Çelik", "Müller", "Smith, Jr.", "Dvořák", "海野", "Rossi",
    "de la Cruz",
)  # fmt: skip
_TITLES = (
    "{}, harbour", 'The "old" pier of {}', "IMG_{}", "Boats, boats & more boats ({})", "{} à l'aube", "Hafen {}: Boote",
)  # fmt: skip
_TOWNS = ("Brügge-am-See", "Kåfjord", "St. Ormond", "Porto Zélia", "Vík", "Little Haven", "Świnoport", "Ny Havn")


def make_dataset(
    folder: str | Path, *, images: int = 2000, seed: int = 0, size: tuple[int, int] = (128, 192), jobs: int | None = -1
) -> None:
    """Write the tables under their official names, and `images/train/<ImageID>.jpg`.

    The files `BROKEN` are no whole JPEGs, whatever their row says, and the image `DEGENERATE` has a box without width.
    The same arguments give the same bytes, whatever the number of processes; what is there is written again.

    Args:
        images: 16 or more.
        seed: everything but a few ids depends on it.
        size: (height, width) of an upright picture, 64 or more.
        jobs: processes, see `helpers.parallel`.

    Raises:
        OSError: the disk is full or read-only.
        RuntimeError: albums that could not be drawn, with the first reason.
    """
    folder = Path(folder)
    (folder / "images" / "train").mkdir(parents=True, exist_ok=True)
    draw = partial(_draw_album, folder=folder, seed=seed, size=tuple(size))
    table = draw_all(draw, _albums(images, seed), what="albums of harbours", label="drawing harbours", jobs=jobs)
    rows = sorted((row for rows in table["rows"] for row in rows), key=lambda row: row["image"])
    boxes = (box for row in rows for box in row["boxes"])
    _write_csv(folder / open_images.BOXES, (*open_images.BOX_COLUMNS, *CLICKS), boxes)
    shuffled = np.random.default_rng([seed, 3]).permutation(len(rows))  # the official table is in no order
    _write_csv(folder / open_images.IMAGES, open_images.IMAGE_COLUMNS, (_image_row(rows[k], seed) for k in shuffled))
    write_class_tables(folder)


def write_class_tables(folder: Path) -> None:
    """Write the drawn data set's table of classes and their tree, in the official form."""
    _write_csv(folder / open_images.CLASSES, None, ((mid, name) for name, mid in MIDS.items()))

    def node(name: str, children: dict) -> dict:
        own = {"LabelName": MIDS.get(name, "/m/0bl9f")}
        return own | ({"Subcategory": [node(*child) for child in children.items()]} if children else {})

    disk.write(folder / open_images.TREE, json.dumps(node("Entity", HIERARCHY), indent=4))


def _write_csv(path: Path, columns: Sequence[str] | None, rows: Iterable[Sequence]) -> None:
    table = pd.DataFrame(list(rows), columns=columns)
    disk.write(path, table.to_csv(index=False, header=columns is not None, lineterminator="\n"))


def _albums(images: int, seed: int) -> list[tuple[int, list[str]]]:
    """Authors with the ids of their images: a few have many, most a handful."""
    fixed = [*BROKEN, DEGENERATE, *AWKWARD]
    ids = fixed + [hashlib.sha256(f"{seed}/{k}".encode()).hexdigest()[:16] for k in range(images - len(fixed))]
    authors = max(4, images // IMAGES_PER_AUTHOR)
    chances = np.arange(1, authors + 1) ** -0.5
    owners = np.random.default_rng([seed, 0]).choice(authors, images, p=chances / chances.sum())
    return [(author, [ids[k] for k in np.flatnonzero(owners == author)]) for author in np.unique(owners).tolist()]


def _draw_album(album: tuple[int, list[str]], folder: Path, seed: int, size: tuple[int, int]) -> dict:
    author, ids = album
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # pictures are too small to share: with more it takes twice as long
    try:
        place = harbour.draw_place(np.random.default_rng([seed, 1, author]), size)
        return {"rows": [_draw_image(image, author, place, folder, seed, size) for image in ids]}
    finally:
        cv2.setNumThreads(threads)


def _draw_image(image: str, author: int, place: harbour.Place, folder: Path, seed: int, size: tuple[int, int]) -> dict:
    rng = np.random.default_rng([seed, 2, int(image, 16)])
    chance, turns = rng.random(), 0
    if chance < 0.03:
        turns = pick((1, 1, 3, 3, 2), chance / 0.03)
    # The file lies on its side: turning it `turns` times counter-clockwise makes it upright.
    picture, boxes = scenes.render(scenes.plan_scene(rng, place, size), -turns)
    content = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    damaged = {"cut": content[: len(content) // 2], "page": PAGE}.get(BROKEN.get(image), content)
    (folder / "images" / "train" / f"{image}.jpg").write_bytes(damaged)
    rows = [_box_row(image, box, picture.shape, active=rng.random() < 0.08) for box in boxes]
    if image == DEGENERATE:
        rows.append(
            [image, "xclick", MIDS["Boat"], 1, *["0.250000"] * 2, "0.500000", "0.562500", *[0] * 5, *["0.250000"] * 8]
        )
    return {
        "image": image,
        "author": author,
        "rotation": float("nan") if 0.03 <= chance < 0.045 else 90.0 * turns,
        "bytes": len(content),
        "md5": base64.b64encode(hashlib.md5(content).digest()).decode(),
        "boxes": rows,
    }


def _box_row(image: str, box: scenes.Box, shape: tuple[int, ...], *, active: bool) -> list:
    """A row of the box table; `active`: a machine's proposal that a person confirmed, its clicks and flags are unknown."""
    height, width = shape[:2]
    thing, edges = box.thing, (box.left / width, box.right / width, box.top / height, box.bottom / height)
    flags = [box.occluded, box.truncated, thing.group, thing.depiction, thing.inside]
    clicks = [x / width for x, _ in box.clicks] + [y / height for _, y in box.clicks]
    active = active and not any(flags[2:])
    if active:
        flags, clicks = [-1] * 5, [-1.0] * 8
    numbers = [f"{value:.6f}" for value in (*edges, *clicks)]
    source = "activemil" if active else "xclick"
    return [image, source, MIDS[thing.name], 1, *numbers[:4], *map(int, flags), *numbers[4:]]


def _image_row(row: dict, seed: int) -> list:
    """A row of the image table; the addresses lead nowhere (`.example` is reserved for that)."""
    author, image = row["author"], row["image"]
    rng = np.random.default_rng([seed, 4, int(image, 16)])
    numbers = rng.random(4).tolist()
    photo = f"{int(image, 16) % 10**11:011d}"
    name = f"{_FIRST[author % len(_FIRST)]} {_LAST[author % len(_LAST)]}"
    title = pick(_TITLES, numbers[0]).format(pick(_TOWNS, numbers[1]) if numbers[2] < 0.8 else photo[-4:])
    host, profile = f"https://farm{1 + author % 9}.photos.example", f"{author:05d}@N00"
    page = f"https://www.photos.example/photos/{profile}/{photo}"
    rotation = "" if np.isnan(row["rotation"]) else row["rotation"]
    people = f"https://www.photos.example/people/{profile}/"
    terms = "https://creativecommons.org/licenses/by/2.0/"
    thumbnail = f"{host}/{author}/{photo}_{image[:6]}_z.jpg" if numbers[3] > 0.025 else ""
    original = f"{host}/{author}/{photo}_{image[:10]}_o.jpg"
    sizes = [row["bytes"], row["md5"]]
    return [image, "train", original, page, terms, people, name, title, *sizes, thumbnail, rotation]


def make_clip(
    path: str | Path, *, seconds: float = 4, fps: int = 12, seed: int = 0, size: tuple[int, int] = (128, 192)
) -> pd.DataFrame:
    """Write a video of boats that sail through a harbour.

    Args:
        path: the suffix decides the codec, see `helpers.video.write_video`.
        seed: everything depends on it.
        size: (height, width), even numbers.

    Returns:
        The true boxes, one row a thing and frame: image (the frame's number from 0), label (Open Images' id, look-alikes
        included), thing (the same number in every frame), x1, y1, x2, y2 (shares of width and height).
    """
    count, rng, rows = round(seconds * fps), np.random.default_rng([seed, 5]), []
    place = harbour.draw_place(rng, size)

    def frames() -> Iterator[np.ndarray]:
        for frame, scene in enumerate(scenes.plan_clip(rng, place, size, [k / fps for k in range(count)])):
            image, boxes = scenes.render(scene)
            for box in boxes:
                edges = (box.left / size[1], box.top / size[0], box.right / size[1], box.bottom / size[0])
                rows.append((frame, MIDS[box.thing.name], scene.things.index(box.thing), *edges))
            yield image

    video.write_video(path, frames(), fps=fps)
    return pd.DataFrame(rows, columns=["image", "label", "thing", "x1", "y1", "x2", "y2"])
