"""Step build_dataset from Open Images' files, genuine or drawn: to tables of pictures and boxes.

`pictures`: image, subset, path, author, title, license, landing_url, rotation in degrees (0 if unknown), outcome.
`boxes`: Open Images' columns (`open_images.BOX_COLUMNS`).
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from helpers.boat_detection.config import BoatDetectionConfig
from helpers.boat_detection.mini import dataset
from helpers.boat_detection.sources import open_images, photos
from helpers.fetch import manifests
from helpers.workspace import disk

ABOUT = {
    "AuthorProfileURL": "author",
    "Title": "title",
    "License": "license",
    "OriginalLandingURL": "landing_url",
    "Rotation": "rotation",
}
WATER = "Watercraft"


def from_open_images(
    config: BoatDetectionConfig, folder: Path, *, cache: Path
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """Filter the annotations, choose pictures and bring them to `folder/images/<subset>`.

    What the big files are filtered to is kept in `folder`, so that a killed run does not read them again.

    Returns:
        Tables of pictures and boxes, and LabelName -> name of the class; `cache` is the folder for the small files.
    """
    if config.source == "mini":
        dataset.make_dataset(folder)
        classes, tree = folder / open_images.CLASSES, folder / open_images.TREE
    else:
        files = [f"oidv7-{open_images.CLASSES}", open_images.TREE]
        small = manifests.fetch_all(manifests.load_manifest("open_images"), cache, names=files)
        classes, tree = (small[name] for name in files)
    names = open_images.read_class_names(classes)
    wanted = wanted_classes(config, names, tree)
    subsets = ("train",) if config.source == "mini" else config.subsets
    parts = [_collect(config, subset, wanted, folder) for subset in subsets]
    found, boxes = (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
    if config.merge_classes:
        return found, boxes, dict.fromkeys(wanted["boats"], config.label)
    return found, boxes, {mid: names[mid] for mid in wanted["boats"]}


def wanted_classes(config: BoatDetectionConfig, names: Mapping[str, str], hierarchy: Path) -> dict[str, list[str]]:
    """Class ids: `boats` to be found, all that is `afloat`, and of pictures `without` a boat to learn that from."""
    label = open_images.find_class(names, config.label)
    boats = open_images.subclasses(hierarchy, label) if config.subclasses else [label]
    afloat = open_images.subclasses(hierarchy, open_images.find_class(names, WATER))
    without = [open_images.find_class(names, config.negatives)] if config.negatives else []
    return {"boats": boats, "afloat": list(dict.fromkeys([*boats, *afloat])), "without": without}


def choose_pictures(boxes: pd.DataFrame, wanted: Mapping[str, list[str]], count: int | None) -> list[str]:
    """Ids of pictures with a boat, and of as many without, in which nothing at all is afloat.

    A picture with a canoe alone is no example of "no boat": whoever labelled it may have meant the canoe to be one.
    """
    having = {kind: set(boxes.loc[boxes["LabelName"].isin(mids), "ImageID"]) for kind, mids in wanted.items()}
    chosen = open_images.choose(having["boats"], len(having["boats"]) if count is None else count)
    return [*chosen, *open_images.choose(having["without"] - having["afloat"], len(chosen))]


def _collect(
    config: BoatDetectionConfig, subset: str, wanted: Mapping[str, list[str]], folder: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pictures and boxes of one subset."""
    address = {"boxes": folder / open_images.BOXES, "images": folder / open_images.IMAGES}
    if config.source != "mini":
        address = open_images.sources(subset)
    mids = [*wanted["afloat"], *wanted["without"]]
    boxes = _kept(folder / f"{subset}-boxes.csv", lambda: open_images.filter_boxes(address["boxes"], mids))
    chosen = choose_pictures(boxes, wanted, config.images)
    if not chosen:
        raise ValueError(
            f"label: received {config.label!r}, of which {subset} has no box; allowed: a class that is boxed"
        )
    about = _kept(folder / f"{subset}-images.csv", lambda: open_images.filter_images(address["images"], chosen))
    open_images.write_transfer_list(about, folder / f"{subset}-transfer.tsv")
    open_images.write_attribution(about, folder / "images" / subset / "ATTRIBUTION.csv")
    found = pd.DataFrame({"image": chosen, "outcome": "ok"})
    if config.source != "mini":
        found = photos.fetch_images(chosen, folder / "images" / subset, subset=subset)
    credits = about.rename(columns={"ImageID": "image", **ABOUT})[["image", *ABOUT.values()]]
    found = found.merge(credits, on="image", how="left").assign(subset=subset)
    found["rotation"] = found["rotation"].fillna(0).astype(int)  # unknown where the original has vanished
    found["path"] = [f"images/{subset}/{image}.jpg" for image in found["image"]]
    return found, boxes[boxes["LabelName"].isin(wanted["boats"]) & boxes["ImageID"].isin(chosen)]


def _kept(path: Path, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table that `make` gives, from the file where an earlier run left it if there is one; beside it what was refused."""
    if not path.is_file():
        table = make()
        disk.write_json(path.with_suffix(".json"), table.attrs)
        disk.write_table(path, table)
    return disk.read_table(path)
