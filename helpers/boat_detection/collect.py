"""Step build_dataset in parts: from Open Images' files, or a folder with Darknet labels, to tables of pictures and boxes.

`pictures`: image, subset, path, author, title, license, landing_url, rotation in degrees (0 if unknown), outcome.
`boxes`: Open Images' columns (`open_images.BOX_COLUMNS`); those of a local folder have the class's name as `LabelName`, and
flags -1: unknown.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from helpers.boat_detection import fetch, files, mini, open_images, pictures
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


def from_open_images(config, folder: Path, *, cache: Path) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """Filter the annotations, choose pictures and bring them to `folder/images/<subset>`.

    What the big files are filtered to is kept in `folder`, so that a killed run does not read them again.

    Args:
        config: gives source, subsets, label, subclasses, negatives and images.
        folder: of the step.
        cache: folder for the small files.

    Returns:
        Tables of pictures and boxes, and LabelName -> name of the class.
    """
    if config.source == "mini":
        mini.make_dataset(folder)
        small = {name: folder / name for name in (mini.CLASSES, mini.TREE)}
    else:
        manifest = manifests.load_manifest("open_images")
        small = manifests.fetch_all(manifest, cache, names=[f"oidv7-{mini.CLASSES}", mini.TREE])
    names = open_images.read_class_names(next(path for name, path in small.items() if name.endswith(mini.CLASSES)))
    wanted = wanted_classes(config, names, small[mini.TREE])
    subsets = ("train",) if config.source == "mini" else config.subsets
    parts = [_collect(config, subset, wanted, folder) for subset in subsets]
    found, boxes = (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
    if config.merge_classes:
        return found, boxes, dict.fromkeys(wanted["boats"], config.label)
    return found, boxes, {mid: names[mid] for mid in wanted["boats"]}


def wanted_classes(config, names: Mapping[str, str], hierarchy: Path) -> dict[str, list[str]]:
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


def _collect(config, subset: str, wanted: Mapping[str, list[str]], folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    address = {"boxes": folder / mini.BOXES, "images": folder / mini.IMAGES}
    if config.source != "mini":
        address = open_images.sources().query("subset == @subset").set_index("kind")["url"]
    mids = [*wanted["afloat"], *wanted["without"]]
    boxes = _kept(folder / f"{subset}-boxes.csv", lambda: open_images.filter_boxes(address["boxes"], mids))
    chosen = choose_pictures(boxes, wanted, config.images)
    about = _kept(folder / f"{subset}-images.csv", lambda: open_images.filter_images(address["images"], chosen))
    open_images.write_transfer_list(about, folder / f"{subset}-transfer.tsv")
    open_images.write_attribution(about, folder / "images" / subset / "ATTRIBUTION.csv")
    found = pd.DataFrame({"image": chosen, "outcome": "ok"})
    if config.source != "mini":
        found = fetch.fetch_images(chosen, folder / "images" / subset, subset=subset)
    credits = about.rename(columns={"ImageID": "image", **ABOUT})[["image", *ABOUT.values()]]
    found = found.merge(credits, on="image", how="left").assign(subset=subset)
    found["rotation"] = found["rotation"].fillna(0).astype(int)  # unknown where the original has vanished
    found["path"] = [f"images/{subset}/{image}.jpg" for image in found["image"]]
    return found, boxes[boxes["LabelName"].isin(wanted["boats"]) & boxes["ImageID"].isin(chosen)]


def _kept(path: Path, make) -> pd.DataFrame:
    """The table that `make` gives, from the file where an earlier run left it if there is one; beside it what was refused."""
    if not path.is_file():
        table = make()
        disk.write_json(path.with_suffix(".json"), table.attrs)
        disk.write_table(path, table)
    return disk.read_table(path)


def from_folder(root: Path, *, merged: str | None) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """Pictures of a folder and the boxes of their Darknet label files; results as `from_open_images`.

    Args:
        root: the folder.
        merged: name of the one class that all boxes become; None keeps the classes, by the names of a `.names` file.
    """
    found = pictures.find_images(root)
    stems = found["image"].map(lambda path: Path(path).stem)
    if stems.duplicated().any():
        raise ValueError(f"two pictures in {root.name} are called {stems[stems.duplicated()].iloc[0]}; rename one")
    problems: list[dict] = []
    table = pictures.read_boxes(root, found, problems=problems)
    for problem in problems:
        print(f"left out: {problem['file']}, line {problem['line']}: {problem['reason']}")
    listed = sorted(root.rglob("*.names"))
    names = files.read_names(listed[0]) if listed else [f"class {i}" for i in range(int(table["class"].max()) + 1)]
    boxes = pd.DataFrame({"ImageID": table["image"].map(lambda path: Path(path).stem)})
    boxes["LabelName"] = table["class"].map(dict(enumerate(names)))
    boxes[["XMin", "XMax", "YMin", "YMax"]] = table[["x1", "x2", "y1", "y2"]]
    boxes = boxes.assign(Source="local", Confidence=1, **dict.fromkeys(open_images.FLAGS, -1))
    frame = pd.DataFrame({"image": stems, "outcome": "ok", "path": found["image"], "subset": "", "rotation": 0})
    return frame, boxes[list(open_images.BOX_COLUMNS)], {name: merged or name for name in names}


def apply_policy(
    config, boxes: pd.DataFrame, classes: Mapping[str, str], good: pd.DataFrame
) -> tuple[pd.DataFrame, dict]:
    """Boxes of the good pictures as the course's table, and the policy's counts.

    Args:
        config: gives policy and upright.
        boxes: of build_dataset.
        classes: LabelName -> name of the class; their order numbers them.
        good: pictures that can be used, with rotation.
    """
    kept = open_images.apply_policy(boxes[boxes["ImageID"].isin(good["image"])], config.policy)
    counts = kept.attrs["policy"]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(classes.values()))}
    table = open_images.to_boxes(kept, {label: numbers[name] for label, name in classes.items()})
    if config.upright:
        table = turn(table, good.set_index("image")["rotation"])
    return table, {name: counts[name] for name in ("boxes", "depiction", "inside", "ignored")}


def turn(boxes: pd.DataFrame, rotations: pd.Series) -> pd.DataFrame:
    """Boxes of pictures that were turned upright; `rotations`: image -> degrees."""
    degrees = boxes["image"].map(rotations)
    corners = boxes[["x1", "y1", "x2", "y2"]].to_numpy(float)
    for turned in sorted(set(degrees) - {0}):
        rows = (degrees == turned).to_numpy()
        corners[rows] = list(zip(*open_images.upright_boxes(*corners[rows].T, turned), strict=True))
    return boxes.assign(**dict(zip(("x1", "y1", "x2", "y2"), corners.T, strict=True)))
