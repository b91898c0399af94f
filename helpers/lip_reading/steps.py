"""The five steps: `build_dataset`, `preprocess`, `split`, `train`, `evaluate`. Each is called as `step(config, workspace)`.

`reads` names the settings that decide a step's result; those that only decide how it is done are left out.
"""

import functools
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import intake, runtime, workspace
from helpers.config import MACHINE
from helpers.drawing import files
from helpers.lip_reading import data, evaluation, faces, runs, splits
from helpers.lip_reading.batches import Lips
from helpers.lip_reading.config import LipReadingConfig
from helpers.lip_reading.lips import Cut
from helpers.lip_reading.mini import dataset
from helpers.lip_reading.sources import grid, local
from helpers.parallel import usable
from helpers.training import early_stop, remote_log
from helpers.workspace import Workspace, disk

DATASET = ("source", "path_to_dataset", "layout", "grid_speakers", "grid_slot", "grid_clips", "grid_margin")
LIPS = Cut._fields
SPLIT = ("len_video", "resample", "split_by", "validation_share", "test_share", "folds", "seed")


@workspace.step(
    project="lip_reading", reads=DATASET,
    fingerprint=functools.partial(
        workspace.fingerprint_local, expected="one that holds clips in folders named by words", key="path_to_dataset"
    ),
)  # fmt: skip
def build_dataset(config: LipReadingConfig, place: Workspace, folder: Path) -> dict:
    """Draw, fetch or find the clips and list them in `clips.csv`; what cannot be used is listed with the reason."""
    root, layout = folder / "clips", "speaker/class"
    if config.source == "grid":
        grid.fetch(root, config.grid_speakers, clips=config.grid_clips, cache=place.downloads / "grid")
        table, left_out = grid.read_table(root, slot=config.grid_slot, margin=config.grid_margin)
        table["error"] = ""
    else:
        if config.source == "mini":
            dataset.make_dataset(root)
        else:
            root, layout = Path(config.path_to_dataset).expanduser().resolve(), config.layout
        found = intake.walk(root, {intake.VIDEO})
        found.use([files.POINTS])  # the true points of drawn clips
        table, left_out = local.measure(local.find_clips(found, layout), root), found.left_out
    left_out = intake.with_errors(left_out, table)
    disk.write_table(folder / "clips.csv", table)
    disk.write_table(folder / "left_out.csv", left_out)
    return {
        "root": str(root) if config.source == "local" else "clips",
        "clips": int((table["error"] == "").sum()),
        "left_out": len(left_out),
        "words": local.class_names(table["label"]),
        "speakers": int(table.loc[table["speaker"] != "", "speaker"].nunique()),
    }


@workspace.step(reads=LIPS, after=build_dataset)
def preprocess(config: LipReadingConfig, place: Workspace, folder: Path) -> dict:
    """Cut the lips out of every clip, once; clips with too few faces or none are listed with the reason in `clips.csv`."""
    built = build_dataset.load(config, place)
    detector, model_path = faces.find_detector(config, place.downloads)
    points = dataset.read_points(built.source_root) if detector == "drawn points" else None
    options = {"points": points, "model_path": model_path}
    cut = Cut(*(getattr(config, name) for name in LIPS))
    done = data.prepare_all(data.usable_clips(built), built.source_root, folder / "lips", cut, **options)
    good = usable(done, "clips")
    if warning := data.check_channels(good):
        print(f"warning: {warning}", flush=True)
    for row in good[good["note"] != ""].head(3).itertuples():
        print(f"note: {row.path}: {row.note}", flush=True)
    disk.write_table(folder / "clips.csv", done)
    return {
        "detector": detector,
        "clips": len(good),
        "failed": len(done) - len(good),
        "frames": int(good["frames"].sum()),
        "without_face": int((good["frames"] - good["found"]).sum()),
        "warning": warning,
    }


@workspace.step(reads=SPLIT, after=preprocess)
def split(config: LipReadingConfig, place: Workspace, folder: Path) -> dict:
    """Give every clip `len_video` frames and its side; leaves `clips.csv` and all clips as one array, `clips.npy`."""
    ready = preprocess.load(config, place)
    table = data.usable_clips(ready).drop(columns="error")
    rule = splits.choose_rule(table, config.split_by, folds=config.folds)
    shares = {name: getattr(config, name) for name in ("validation_share", "test_share", "folds", "seed")}
    sides = splits.assign_sides(table, rule=rule, **shares)
    table = table.drop(columns="split").join(sides)
    words = local.class_names(table["label"])
    table["number"] = table["label"].map({word: number for number, word in enumerate(words)})
    options = {"length": config.len_video, "mode": config.resample}
    data.write_clips(folder / "clips.npy", ready.folder / "lips", table["cache"].tolist(), **options)
    disk.write_table(folder / "clips.csv", table)
    return {
        "rule": rule,
        "words": words,
        "clips": {column: sides[column].value_counts().reindex(splits.SIDES).astype(int).to_dict() for column in sides},
        "shared_speakers": sorted({name for column in sides for name in splits.shared_speakers(table, sides[column])}),
    }


@workspace.step(reads=runs.TRAIN, after=split, uses=MACHINE, keep=True)
def train(config: LipReadingConfig, place: Workspace, folder: Path) -> dict:
    """Train the network, or one for each part of a cross-validation; leaves all logs in `curves.csv`."""
    runtime.require_gpu(config)
    lips = Lips.of(split.load(config, place))
    with runtime.precision(config.precision), remote_log.mirror(config, place) as remote:
        logs = [runs.train_one(config, lips, part, folder / part, remote=remote) for part in lips.parts]
    disk.write_table(folder / "curves.csv", pd.concat(logs, ignore_index=True).drop(columns=["time", "saved"]))
    accuracies = [log.set_index("epoch")["validation_accuracy"] for log in logs]
    return {
        "trainings": len(logs),
        "epochs": [len(log) for log in logs],
        "best_epochs": [int(accuracy.idxmax()) for accuracy in accuracies],
        "validation_accuracy": [float(accuracy.max()) for accuracy in accuracies],
    }


@workspace.step(reads=(), after=train, keep=True)
def evaluate(config: LipReadingConfig, place: Workspace, folder: Path) -> dict:
    """Read all test clips; leaves `scores.csv` of every reader, `predictions.csv` and `probabilities.npy` of the network."""
    lips, trained = Lips.of(split.load(config, place)), train.load(config, place).folder
    runtime.set_seeds(config.seed)
    with runtime.precision(config.precision):
        network, untrained = (runs.build_network(config, len(lips.words)) for _ in range(2))
        options = {"network": network, "untrained": untrained, "seed": config.seed}
        options["load"] = lambda part: early_stop.load_best(network, trained / part)
        readings = evaluation.read_parts(lips, **options)
    rows = np.concatenate([lips.rows("test", part) for part in lips.parts])
    scores, found = evaluation.score_table(lips.labels[rows], readings), readings[evaluation.READERS[0]]
    disk.write_table(folder / "scores.csv", scores)
    disk.write_table(folder / "predictions.csv", evaluation.prediction_table(lips, rows, found))
    with disk.atomic_write(folder / "probabilities.npy") as file:
        np.save(file, found)
    return {"clips": len(rows), "accuracy": scores.set_index("reader")["accuracy"].round(4).to_dict()}


STEPS = [build_dataset, preprocess, split, train, evaluate]
