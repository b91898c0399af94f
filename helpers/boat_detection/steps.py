"""The five steps: `build_dataset`, `preprocess`, `split`, `train`, `evaluate`. Each is called as `step(config, workspace)`.

`reads` names the settings that decide a step's result; those that only decide how it is done are left out.
"""

import functools
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import parallel, runtime, training, video, workspace
from helpers.boat_detection import anchors as anchor_search
from helpers.boat_detection import augment, collect, data, evaluation, files, network, prepare, train_log
from helpers.boat_detection.cfg import Cfg, read_cfg
from helpers.config import MACHINE
from helpers.training import remote_log
from helpers.workspace import disk

DATASET = ("source", "local_folder", "label", "subclasses", "subsets", "negatives", "merge_classes", "images")
SPLIT = ("split_by", "folds", "fold", "seed")
NETWORK = ("network", "width", "size", "anchors", "start", "freeze", "dialect", "resize", "batch_norm_momentum")
TRAIN = (
    *NETWORK,
    *(
        "optimizer",
        "learning_rate",
        "burn_in",
        "schedule",
        "batch_size",
        "subdivisions",
        "iterations",
        "evaluate_every",
    ),
    *("watch_images", "ignore_thresh", "coordinates", "jitter", "hue", "saturation", "exposure", "mosaic"),
    *("multi_scale", "ema", "precision", "nms", "seed"),
)
SIDES = {"train": "train.txt", "validation": "valid.txt", "test": "test.txt"}


def fingerprint(config):
    """Names, sizes and times of a local folder's files, so that a changed folder makes a new data set."""
    kinds = (*files.IMAGE_SUFFIXES, ".txt", ".names")
    return workspace.fingerprint_local(
        config,
        lambda root: (path for path in root.rglob("*") if path.suffix.lower() in kinds),
        expected="one with pictures and Darknet label files",
    )


@workspace.step(project="boat_detection", reads=DATASET, fingerprint=fingerprint)
def build_dataset(config, place, folder):
    """Draw, fetch or find pictures and boxes; leaves `pictures.csv` and `boxes.csv`."""
    if config.source == "local":
        root = Path(config.local_folder).expanduser().resolve()
        pictures, boxes, classes = collect.from_folder(root, merged=config.label if config.merge_classes else None)
    else:
        root = folder
        pictures, boxes, classes = collect.from_open_images(config, folder, cache=place.downloads)
    disk.write_table(folder / "pictures.csv", pictures)
    disk.write_table(folder / "boxes.csv", boxes)
    return {
        "root": str(root) if config.source == "local" else ".",
        "pictures": int((pictures["outcome"] == "ok").sum()),
        "not_available": int((pictures["outcome"] != "ok").sum()),
        "boxes": len(boxes),
        "classes": classes,
    }


def picture_root(config, place) -> Path:
    """Folder that the paths of build_dataset's `pictures.csv` start from."""
    result = build_dataset.load(config, place)
    return result.folder / result["root"]  # an absolute root wins


@workspace.step(reads=("policy", "upright", "max_side"), after=build_dataset)
def preprocess(config, place, folder):
    """Check every picture, apply the policy to the boxes, and write Darknet's label files."""
    before = build_dataset.load(config, place)
    pictures = before.table("pictures").query("outcome == 'ok'").reset_index(drop=True)
    options = {"upright": config.upright, "max_side": config.max_side}
    work = functools.partial(prepare.prepare_picture, root=picture_root(config, place), folder=folder, **options)
    done = video.parallel(work, pictures.to_dict("records"), label="checking pictures")
    parallel.stop_at_disk_errors(done, "pictures")
    pictures["error"] = done["error"]
    good = pictures[pictures["error"] == ""]
    if good.empty:
        raise ValueError(f"not one of {len(done)} pictures can be used; the first says: {done['error'].iloc[0]}")
    pictures[["width", "height"]] = done.reindex(columns=["width", "height"]).fillna(0).astype(int).to_numpy()
    boxes, counts = collect.apply_policy(config, before.table("boxes"), before["classes"], good)
    prepare.write_label_files(good["image"].tolist(), boxes, folder)
    disk.write_table(folder / "pictures.csv", pictures)
    disk.write_table(folder / "boxes.csv", boxes)
    return {
        "pictures": len(good),
        "failed": len(done) - len(good),
        "empty": int((~good["image"].isin(boxes.loc[~boxes["ignore"], "image"])).sum()),
        "names": list(dict.fromkeys(before["classes"].values())),
        **counts,
    }


@workspace.step(reads=SPLIT, after=preprocess)
def split(config, place, folder):
    """Put every picture on one side, count what is on two all the same, and write Darknet's lists."""
    ready = preprocess.load(config, place)
    pictures = ready.table("pictures").query("error == ''").reset_index(drop=True)
    sides = prepare.assign_sides(pictures, config)
    pictures["split"] = sides.to_numpy()
    for side, name in SIDES.items():
        rows = pictures.loc[pictures["split"] == side, "image"]
        files.write_list(folder / name, [f"../{ready.folder.name}/images/{image}.jpg" for image in rows])
    files.write_names(folder / "obj.names", ready["names"])
    lists = {"train": SIDES["train"], "valid": SIDES["validation"], "backup": "backup"}
    files.write_data(folder / "obj.data", classes=len(ready["names"]), names="obj.names", **lists)
    disk.write_table(folder / "pictures.csv", pictures)
    return {
        "pictures": {side: int((pictures["split"] == side).sum()) for side in SIDES},
        "leaks": prepare.count_leaks(pictures, sides, ready.folder / "images"),
    }


def side_of(config, place, side: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pictures and boxes of one side of the split; paths of the pictures are absolute."""
    ready = preprocess.load(config, place)
    pictures = split.load(config, place).table("pictures").query("split == @side").reset_index(drop=True)
    if pictures.empty:
        raise ValueError(
            f"no picture is on the side {side}; expected at least one: take more pictures or another split_by"
        )
    pictures["path"] = [str(ready.folder / "images" / f"{image}.jpg") for image in pictures["image"]]
    boxes = ready.table("boxes")
    return pictures, boxes[boxes["image"].isin(pictures["image"])].reset_index(drop=True)


def anchors_of(config, pictures: pd.DataFrame, boxes: pd.DataFrame) -> np.ndarray | None:
    """Anchors in pixels of the input, found in the training boxes where the config asks for it, else None."""
    if config.anchors == "coco" or config.network.endswith(".cfg"):
        return None
    sizes = prepare.input_sizes(pictures, boxes[~boxes["ignore"]], size=config.size, resize=config.resize)
    return anchor_search.find_anchors(sizes, network.count_anchors(config), seed=config.seed)[0]


def batches_of(config, pictures: pd.DataFrame, boxes: pd.DataFrame) -> data.Batches:
    """The training batches; one is a subdivision of an iteration."""
    changes = ("dialect", "jitter", "hue", "saturation", "exposure")
    return data.Batches(
        prepare.pairs(pictures, boxes),
        size=config.size,
        batch_size=config.batch_size // config.subdivisions,
        seed=config.seed,
        augmentation=augment.Augmentation(
            **{name: getattr(config, name) for name in changes},
            letterbox=config.resize == "letterbox" and config.dialect == "alexeyab",
        ),
        resize=config.resize,
        mosaic=0.5 if config.mosaic else 0.0,
        random=1.4 if config.multi_scale else 0.0,
        max_batches=config.iterations,
        subdivisions=config.subdivisions,
        workers=2,
    )


def network_cfg(config, place) -> Cfg:
    """The .cfg of the training."""
    return read_cfg(train.load(config, place).folder / "network.cfg")


@workspace.step(reads=TRAIN, after=split, uses=MACHINE, keep=True)
def train(config, place, folder):
    """Train the network; leaves its .cfg, Darknet's own log, .weights files and `log.csv`."""
    if config.source != "mini":
        runtime.require_gpu(config)
    pictures, boxes = side_of(config, place, "train")
    names = preprocess.load(config, place)["names"]
    with disk.atomic_write(folder / "network.cfg", "w") as file:
        file.write(network.write_cfg(config, len(names), anchors_of(config, pictures, boxes)))
    cfg = read_cfg(folder / "network.cfg")
    batches = batches_of(config, pictures, boxes)
    with runtime.precision(config.precision), remote_log.mirror(config, place) as remote:
        trained = network.build_detector(config, cfg, downloads=place.downloads)
        watch = evaluation.Watch(trained.network, cfg, config, *side_of(config, place, "validation"))
        length = config.evaluate_every * config.subdivisions
        log = training.fit(
            trained,
            lambda step: training.prefetch(batches.batch, step),
            run_dir=folder,
            epochs=config.iterations // config.evaluate_every,
            steps_per_epoch=length,
            validation=watch,
            save_every=config.save_every,
            callbacks=[train_log.TrainLog(folder, cfg, batch_size=config.batch_size, every=config.backup_every)],
            seed=config.seed,
            remote=remote,
            config={name: getattr(config, name) for name in TRAIN},
        )
    last = log.iloc[-1]
    return {"iterations": config.iterations, "pictures": len(pictures)} | {
        name: float(last[name]) for name in ("loss", "ap50")
    }


@workspace.step(reads=("confidence",), after=train, keep=True)
def evaluate(config, place, folder):
    """Find boats in the test pictures; leaves detections of each finder and `scores.csv`."""
    pictures, truth = side_of(config, place, "test")
    cfg, trained = network_cfg(config, place), train.load(config, place)
    names = preprocess.load(config, place)["names"]
    _, train_boxes = side_of(config, place, "train")
    with runtime.precision(config.precision):
        tables = evaluation.detect_all(config, cfg, trained.folder, place.downloads, pictures, train_boxes)
    for name, table in tables.items():
        disk.write_table(folder / f"{evaluation.slug(name)}.csv", table)
    truth = evaluation.pixels(truth, pictures)
    disk.write_table(folder / "truth.csv", truth)
    scores = evaluation.score_all(tables, truth, names, confidence=config.confidence)
    disk.write_table(folder / "scores.csv", scores)
    ap50 = scores[scores["class"] == "mean"].set_index("finder")["AP50 (Darknet)"]
    return {"pictures": len(pictures), "boats": int((~truth["ignore"]).sum()), "ap50": ap50.round(4).to_dict()}


STEPS = [build_dataset, preprocess, split, train, evaluate]
