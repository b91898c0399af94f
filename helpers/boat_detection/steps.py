"""The five steps: `build_dataset`, `preprocess`, `split`, `train`, `evaluate`. Each is called as `step(config, workspace)`.

`reads` names the settings that decide a step's result; those that only decide how it is done are `uses`.
"""

import functools
from pathlib import Path

from helpers import intake, parallel, runtime, workspace
from helpers.batches import SIDES
from helpers.boat_detection import data, runs, splits
from helpers.boat_detection.config import BoatDetectionConfig
from helpers.boat_detection.evaluation import finders, scoring
from helpers.boat_detection.formats.darknet import cfg_files, text_files
from helpers.boat_detection.metrics.overlap import in_pixels
from helpers.boat_detection.sources import cleaning, collect, local
from helpers.config import MACHINE
from helpers.training import remote_log
from helpers.workspace import Workspace, disk

DATASET = ("source", "local_folder", "label", "subclasses", "subsets", "negatives", "merge_classes", "images")
SPLIT = ("split_by", "folds", "fold", "seed")
LISTS = dict(zip(SIDES, ("train.txt", "valid.txt", "test.txt"), strict=True))  # as Darknet calls them


@workspace.step(
    project="boat_detection", reads=DATASET,
    fingerprint=functools.partial(
        workspace.fingerprint_local, expected="one with pictures and Darknet label files", notes=True
    ),
)  # fmt: skip
def build_dataset(config: BoatDetectionConfig, place: Workspace, folder: Path) -> dict:
    """Draw, fetch or find pictures and boxes; leaves `pictures.csv` and `boxes.csv`."""
    root = "."
    if config.source == "local":
        root = Path(config.local_folder).expanduser().resolve()
        found = intake.walk(root, {intake.PICTURE})
        pictures, boxes, classes = local.from_folder(found, merged=config.label if config.merge_classes else None)
        left_out = found.left_out
    else:
        pictures, boxes, classes = collect.from_open_images(config, folder, cache=place.downloads)
        left_out = pictures.loc[pictures["outcome"] != "ok", ["path", "outcome"]].set_axis(intake.COLUMNS, axis=1)
    disk.write_table(folder / "pictures.csv", pictures)
    disk.write_table(folder / "boxes.csv", boxes)
    disk.write_table(folder / "left_out.csv", left_out)
    return {
        "root": str(root),
        "pictures": int((pictures["outcome"] == "ok").sum()),
        "left_out": len(left_out),
        "boxes": len(boxes),
        "classes": classes,
    }


@workspace.step(reads=("policy", "upright", "max_side"), after=build_dataset)
def preprocess(config: BoatDetectionConfig, place: Workspace, folder: Path) -> dict:
    """Check every picture, apply the policy to the boxes, and write Darknet's label files."""
    built = build_dataset.load(config, place)
    pictures = built.table("pictures").query("outcome == 'ok'").reset_index(drop=True)
    options = {"upright": config.upright, "max_side": config.max_side, "follow_note": config.source == "local"}
    work = functools.partial(data.prepare_picture, root=built.source_root, folder=folder, **options)
    done = parallel.parallel(work, pictures.to_dict("records"), what="pictures", label="checking pictures")
    pictures["error"] = done["error"]
    good = parallel.usable(pictures, "pictures")
    pictures[["width", "height"]] = done.reindex(columns=["width", "height"]).fillna(0).astype(int).to_numpy()
    boxes, counts = cleaning.boxes_that_count(
        built.table("boxes"), built["classes"], good, policy=config.policy, upright=config.upright
    )
    data.write_label_files(good["image"].tolist(), boxes, folder)
    disk.write_table(folder / "pictures.csv", pictures)
    disk.write_table(folder / "boxes.csv", boxes)
    return {
        "pictures": len(good),
        "failed": len(done) - len(good),
        "empty": int((~good["image"].isin(data.that_count(boxes)["image"])).sum()),
        "names": list(dict.fromkeys(built["classes"].values())),
        **counts,
    }


@workspace.step(reads=SPLIT, after=preprocess)
def split(config: BoatDetectionConfig, place: Workspace, folder: Path) -> dict:
    """Put every picture on one side, count what is on two all the same, and write Darknet's lists."""
    ready = preprocess.load(config, place)
    pictures = ready.table("pictures").query("error == ''").reset_index(drop=True)
    owners = {"authors": pictures.get("author", ()), "subsets": pictures["subset"]}
    runs_of = {"folds": config.folds, "fold": config.fold}
    sides = splits.assign_sides(pictures["image"], by=config.split_by, seed=config.seed, **owners, **runs_of)
    pictures["split"] = sides.to_numpy()
    for side, name in LISTS.items():
        rows = pictures.loc[pictures["split"] == side, "image"]
        text_files.write_list(folder / name, [f"../{ready.folder.name}/images/{image}.jpg" for image in rows])
    text_files.write_names(folder / "obj.names", ready["names"])
    lists = {"train": LISTS["train"], "valid": LISTS["validation"], "backup": "backup"}
    text_files.write_data(folder / "obj.data", classes=len(ready["names"]), names="obj.names", **lists)
    disk.write_table(folder / "pictures.csv", pictures)
    return {
        "pictures": {side: int((pictures["split"] == side).sum()) for side in SIDES},
        "leaks": splits.leaks_into_test(pictures, sides, ready.folder / "images"),
    }


@workspace.step(reads=runs.TRAIN, after=split, uses=(*MACHINE, "backup_every"), fingerprint=runs.fingerprint, keep=True)
def train(config: BoatDetectionConfig, place: Workspace, folder: Path) -> dict:
    """Train the network; leaves its .cfg, Darknet's own log, .weights files and `log.csv`."""
    runtime.require_gpu(config)
    ready, parted = preprocess.load(config, place), split.load(config, place)
    sides = {side: data.side_of(ready, parted, side) for side in ("train", "validation")}
    with runtime.precision(config.precision), remote_log.mirror(config, place) as remote:
        log = runs.train_one(config, folder, sides, len(ready["names"]), downloads=place.downloads, remote=remote)
    numbers = {name: float(log[name].iloc[-1]) for name in ("loss", "ap50")}
    return {"iterations": config.iterations, "pictures": len(sides["train"][0]), **numbers}


@workspace.step(reads=("confidence", "nms"), after=train, keep=True)
def evaluate(config: BoatDetectionConfig, place: Workspace, folder: Path) -> dict:
    """Find boats in the test pictures; leaves detections of each finder and `scores.csv`."""
    ready, parted, trained = (step.load(config, place) for step in (preprocess, split, train))
    pictures, truth = data.side_of(ready, parted, "test")
    _, train_boxes = data.side_of(ready, parted, "train")
    cfg = cfg_files.read_cfg(trained.folder / finders.CFG)
    with runtime.precision(config.precision):
        untrained = runs.build_network(config, cfg, downloads=place.downloads)
        found = runs.load_network(config, cfg, trained.folder, downloads=place.downloads)
        both = (finders.build_finder(config, cfg, network) for network in (untrained, found))
        tables = scoring.detect_all(*both, pictures, train_boxes, seed=config.seed)
    for name, table in tables.items():
        disk.write_table(folder / f"{scoring.slug(name)}.csv", table)
    truth = in_pixels(truth, pictures)
    disk.write_table(folder / "truth.csv", truth)
    scores = scoring.score_all(tables, truth, ready["names"], confidence=config.confidence)
    disk.write_table(folder / "scores.csv", scores)
    ap50 = scores[scores["class"] == "mean"].set_index("finder")["AP50 (Darknet)"]
    return {"pictures": len(pictures), "boats": int((~truth["ignore"]).sum()), "ap50": ap50.round(4).to_dict()}


STEPS = [build_dataset, preprocess, split, train, evaluate]
