"""The five steps: `build_dataset`, `preprocess`, `split`, `train`, `evaluate`. Each is called as `step(config, workspace)`.

`reads` names the settings that decide a step's result; those that only decide how it is done are left out.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from helpers import runtime, workspace
from helpers.config import MACHINE
from helpers.fetch import manifests
from helpers.lip_reading import clips as clip_cache
from helpers.lip_reading import early_stop, evaluation, faces, grid, metrics, mini, runs, sources, splits
from helpers.training import remote_log
from helpers.workspace import disk

DATASET = ("source", "path_to_dataset", "layout", "grid_speakers", "grid_slot", "grid_clips", "grid_margin")
LIPS = ("lips", "window", "size_lips", "padding_lips", "channels_lips", "swap_channels", "min_found")
SPLIT = ("len_video", "resample", "split_by", "validation_share", "test_share", "folds", "seed")


def fingerprint(config):
    """Names, sizes and times of a local folder's files, so that a changed folder makes a new data set."""
    return workspace.fingerprint_local(
        config,
        lambda root: (path for path in root.rglob("*") if path.suffix.lower() in sources.SUFFIXES),
        expected="one that holds clips in folders named by words",
        key="path_to_dataset",
    )


@workspace.step(project="lip_reading", reads=DATASET, fingerprint=fingerprint)
def build_dataset(config, place, folder):
    """Draw, fetch or find the clips and list them in `clips.csv`; what cannot be used is listed with the reason."""
    root, problems = folder / "clips", pd.DataFrame(columns=["path", "reason"])
    if config.source == "grid":
        grid.fetch(root, config.grid_speakers, clips=config.grid_clips, cache=place.downloads / "grid")
        table, problems = grid.read_table(root, slot=config.grid_slot, margin=config.grid_margin)
        table["error"] = ""
    else:
        if config.source == "mini":
            mini.make_dataset(root)
        else:
            root = Path(config.path_to_dataset).expanduser().resolve()
        layout = "speaker/class" if config.source == "mini" else config.layout
        table = sources.measure(sources.find_clips(root, layout), root)
    disk.write_table(folder / "clips.csv", table)
    disk.write_table(folder / "problems.csv", problems)
    return {
        "root": str(root) if config.source == "local" else "clips",
        "clips": int((table["error"] == "").sum()),
        "broken": int((table["error"] != "").sum()) + len(problems),
        "words": sources.class_names(table["label"]),
        "speakers": int(table.loc[table["speaker"] != "", "speaker"].nunique()),
    }


def usable_clips(result: workspace.StepResult) -> pd.DataFrame:
    """The rows without an error of a step's `clips.csv`."""
    return result.table("clips").query("error == ''").reset_index(drop=True).astype({"frames": int})


def clip_root(config, place) -> Path:
    """Folder that the paths of `clips.csv` start from."""
    result = build_dataset.load(config, place)
    return result.folder / result["root"]  # an absolute root wins


def find_detector(config, place) -> tuple[str, Path | None]:
    """How the lips are found: "yunet" with its file, "haar", "drawn points" (mini without the file), "cropped" or "fixed"."""
    if config.lips != "detect":
        return config.lips, None
    folder = place.downloads / "yunet"
    if config.source == "mini":  # never asks the network
        path = faces.local_model(folder)
        return ("yunet" if path else "drawn points"), path
    try:
        return "yunet", faces.fetch_model(folder)
    except manifests.DownloadError:
        return faces.backend(), None  # the same error again where OpenCV has no Haar cascade


@workspace.step(reads=LIPS, after=build_dataset)
def preprocess(config, place, folder):
    """Cut the lips out of every clip, once; clips with too few faces or none are listed with the reason in `clips.csv`."""
    sound = usable_clips(build_dataset.load(config, place))
    detector, model_path = find_detector(config, place)
    root = clip_root(config, place)
    points = mini.read_points(root) if detector == "drawn points" else None
    done = clip_cache.prepare_all(sound, root, folder / "lips", config, points=points, model_path=model_path)
    good = done[done["error"] == ""]
    if good.empty:
        raise ValueError(f"not one of {len(done)} clips can be used; the first says: {done['error'].iloc[0]}")
    warning = clip_cache.check_channels(good)
    if warning:
        print(f"warning: {warning}", flush=True)
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
def split(config, place, folder):
    """Give every clip `len_video` frames and its side; leaves `clips.csv` and all clips as one array, `clips.npy`."""
    ready = preprocess.load(config, place)
    table = usable_clips(ready).drop(columns="error")
    rule = splits.choose_rule(table, config.split_by, folds=config.folds)
    shares = {name: getattr(config, name) for name in ("validation_share", "test_share", "folds", "seed")}
    sides = splits.assign_sides(table, rule=rule, **shares)
    table = table.drop(columns="split").join(sides)
    words = sources.class_names(table["label"])
    table["number"] = table["label"].map({word: number for number, word in enumerate(words)})
    with disk.atomic_path(folder / "clips.npy") as path:
        options = {"length": config.len_video, "mode": config.resample, "out": path}
        clip_cache.load_clips(ready.folder / "lips", table["cache"].tolist(), **options).flush()
    disk.write_table(folder / "clips.csv", table)
    return {
        "rule": rule,
        "words": words,
        "clips": {column: sides[column].value_counts().reindex(splits.SIDES).astype(int).to_dict() for column in sides},
        "shared_speakers": sorted({name for column in sides for name in splits.shared_speakers(table, sides[column])}),
    }


def load_lips(config, place) -> runs.Lips:
    """What step `split` left."""
    result = split.load(config, place)
    table = result.table("clips")
    clips = np.load(result.folder / "clips.npy", mmap_mode="r")
    return runs.Lips(table, clips, result["words"], list(splits.columns_of(table)))


@workspace.step(reads=runs.TRAIN, after=split, uses=MACHINE, keep=True)
def train(config, place, folder):
    """Train the network, or one for each part of a cross-validation; leaves all logs in `curves.csv`."""
    if config.source != "mini":
        runtime.require_gpu(config)
    lips = load_lips(config, place)
    with runtime.precision(config.precision), remote_log.mirror(config, place) as remote:
        logs = [runs.train_one(config, lips, part, folder / part, remote=remote) for part in lips.parts]
    curves = pd.concat(logs, ignore_index=True).drop(columns=["time", "saved"])
    disk.write_table(folder / "curves.csv", curves)
    best = [int(log.loc[log["val_accuracy"].idxmax(), "epoch"]) for log in logs]
    return {
        "trainings": len(logs),
        "epochs": [len(log) for log in logs],
        "best_epochs": best,
        "val_accuracy": [float(log["val_accuracy"].max()) for log in logs],
    }


def load_network(config, place, part: str | None = None):
    """The network of the best epoch that step `train` left."""
    lips = load_lips(config, place)
    network = runs.build_network(config, len(lips.words))
    early_stop.load_best(network, train.load(config, place).folder / (part or lips.parts[0]))
    return network


def read_test_clips(config, place, lips: runs.Lips) -> dict[str, np.ndarray]:
    """Probabilities of the test clips, part after part, (N, classes), by reader; see `evaluation.READERS`."""
    runtime.set_seeds(config.seed)
    network, untrained = (runs.build_network(config, len(lips.words)) for _ in range(2))
    found = []
    for part in lips.parts:  # one network takes all weights in turn, and is traced once
        early_stop.load_best(network, train.load(config, place).folder / part)
        found.append(evaluation.read_part(lips, part, network=network, untrained=untrained, seed=config.seed))
    return {name: np.concatenate([part[name] for part in found]) for name in evaluation.READERS}


@workspace.step(reads=(), after=train, keep=True)
def evaluate(config, place, folder):
    """Read all test clips; leaves `scores.csv` of every reader, `predictions.csv` and `probabilities.npy` of the network."""
    lips = load_lips(config, place)
    with runtime.precision(config.precision):
        readings = read_test_clips(config, place, lips)
    rows = np.concatenate([lips.rows("test", part) for part in lips.parts])
    labels = lips.labels[rows]
    scores = pd.DataFrame([{"reader": name} | metrics.measure(labels, found) for name, found in readings.items()])
    disk.write_table(folder / "scores.csv", scores)
    found = readings[evaluation.READERS[0]]
    table = lips.table.loc[rows, ["path", "label", "speaker", "number"]].assign(row=rows)
    table["predicted"] = np.array(lips.words, dtype=object)[metrics.predictions(found)]
    table["probability"] = found.max(axis=1)
    disk.write_table(folder / "predictions.csv", table)
    with disk.atomic_write(folder / "probabilities.npy") as file:
        np.save(file, found)
    return {"clips": len(rows), "accuracy": scores.set_index("reader")["accuracy"].round(4).to_dict()}


STEPS = [build_dataset, preprocess, split, train, evaluate]
