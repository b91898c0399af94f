"""The five steps: `build_dataset`, `preprocess`, `split`, `train`, `evaluate`. Each is called as `step(config, workspace)`.

`reads` names the settings that decide a step's result; those that only decide how it is done (where checkpoints go, whether
a CPU is allowed) are left out, so that changing them throws nothing away.
"""

import functools
from pathlib import Path

import pandas as pd

from helpers import intake, parallel, runtime, workspace
from helpers.batches import SIDES
from helpers.config import MACHINE
from helpers.temporal_coherence import cutting, data, evaluation, metrics, runs, splits
from helpers.temporal_coherence.batches import Frames, see
from helpers.temporal_coherence.config import TemporalCoherenceConfig
from helpers.temporal_coherence.mini import dataset
from helpers.temporal_coherence.sources import ucf101
from helpers.training import remote_log
from helpers.workspace import Workspace, disk

CLIPS = "UCF-101"
CUT = ("step", "negative_every", "gap", "size", "quality")
SPLIT = ("split_by", "test_share", "test_room", "validation_groups", "fold", "seed")
EVALUATE = ("clusters", "cluster_seeds", "tsne_frames", "label_shares", "finetune_steps")


@workspace.step(
    project="temporal_coherence", reads=("source", "local_folder", "classes", "more_groups"),
    fingerprint=functools.partial(workspace.fingerprint_local, expected="one with a folder per class"),
)  # fmt: skip
def build_dataset(config: TemporalCoherenceConfig, place: Workspace, folder: Path) -> dict:
    """Draw, fetch or find the clips and list them in `clips.csv`."""
    root, classes = folder / CLIPS, config.classes
    if config.source == "mini":
        table = dataset.make_dataset(root)
        if config.more_groups:
            more = dataset.make_dataset(root, groups=dataset.MORE_GROUPS[: config.more_groups])
            table = pd.concat([table, more], ignore_index=True)
        dataset.write_lists(folder, table)
        classes = ()
    elif config.source == "ucf101":
        ucf101.fetch_clips(root, classes, cache=place.downloads)
    else:
        root = Path(config.local_folder).expanduser().resolve()
    found = intake.walk(root, {intake.VIDEO})
    clips = data.find_clips(found, classes)
    disk.write_table(folder / "clips.csv", clips)
    disk.write_table(folder / "left_out.csv", found.left_out)
    return {
        "root": str(root) if config.source == "local" else CLIPS,
        "clips": len(clips),
        "left_out": len(found.left_out),
        "classes": sorted(clips["class"].unique()),
        "groups": len(clips.groupby(["class", "group"])),
    }


@workspace.step(reads=CUT, after=build_dataset)
def preprocess(config: TemporalCoherenceConfig, place: Workspace, folder: Path) -> dict:
    """Cut all clips into the frames of their pairs, in parallel; a clip that fails is recorded in `clips.csv`."""
    built = build_dataset.load(config, place)
    clips = built.table("clips")
    options = {name: getattr(config, name) for name in CUT}
    work = functools.partial(cutting.preprocess_clip, root=built.source_root, folder=folder, options=options)
    done = parallel.parallel(work, clips.to_dict("records"), what="clips", label="cutting clips")
    counts = ["decoded_frames", "header_frames", "pairs"]
    clips[counts] = done.reindex(columns=counts).fillna(0).astype(int).to_numpy()
    clips["error"] = done["error"]
    clips["note"] = done.reindex(columns=["note"])["note"].fillna("")
    good = parallel.usable(clips, "clips")
    folders = good["video"].map(cutting.frames_name) + "/"
    pairs = cutting.list_pairs(good, folders, step=config.step, negative_every=config.negative_every)
    disk.write_table(folder / "clips.csv", clips)
    disk.write_table(folder / "pairs.csv", pairs)
    return {
        "clips": len(good),
        "failed": len(clips) - len(good),
        "lying_headers": int((good["decoded_frames"] != good["header_frames"]).sum()),
        "queries": len(pairs),
        "negatives": int((pairs["path_next"] == "").sum()),
        "megabytes": round(sum(path.stat().st_size for path in folder.rglob("*.jpg")) / 1e6, 2),
    }


@workspace.step(reads=SPLIT, after=preprocess)
def split(config: TemporalCoherenceConfig, place: Workspace, folder: Path) -> dict:
    """Put every clip on one side, check that no group is on two, and say so in `clips.csv` and `pairs.csv`."""
    cut = preprocess.load(config, place)
    clips = cut.table("clips").query("error == ''").reset_index(drop=True)
    options = {name: getattr(config, name) for name in ("seed", "test_share", "test_room", "validation_groups")}
    built = build_dataset.load(config, place).folder
    lists = splits.official_lists(config, built) if config.split_by == "official" else None
    last = dataset.GROUPS[-1] if config.source == "mini" else None  # the same clips watch, however many are drawn
    clips["split"] = splits.assign_sides(clips, by=config.split_by, lists=lists, last_group=last, **options)
    leaks = splits.check_leaks(clips, by=config.split_by)
    pairs = cut.table("pairs")
    pairs["split"] = pairs["video"].map(clips.set_index("video")["split"])
    disk.write_table(folder / "clips.csv", clips)
    disk.write_table(folder / "pairs.csv", pairs[pairs["split"] != ""])
    return {
        "clips": {side: int((clips["split"] == side).sum()) for side in SIDES},
        "pairs": {side: int((pairs["split"] == side).sum()) for side in SIDES},
        "in_no_list": int((clips["split"] == "").sum()),
        "leaking_groups": leaks,
        "warning": f"{len(leaks)} groups are on both sides: scores measure memory too" if leaks else "",
    }


def frames_of(config: TemporalCoherenceConfig, place: Workspace, pairs: pd.DataFrame) -> Frames:
    """Reader of the frames that a table of pairs names."""
    return Frames(preprocess.load(config, place).folder, count=4 * len(pairs), size=config.size)


@workspace.step(reads=runs.TRAIN, after=split, uses=MACHINE, keep=True)
def train(config: TemporalCoherenceConfig, place: Workspace, folder: Path) -> dict:
    """Train the network of `loss`, then those of `compare` from the same start with the same budget."""
    runtime.require_gpu(config)
    pairs = see(config.inputs, split.load(config, place).table("pairs"))
    frames = frames_of(config, place, pairs)
    names = list(dict.fromkeys((config.loss, *config.compare)))
    with runtime.precision(config.precision), remote_log.mirror(config, place) as remote:
        table = pd.DataFrame(runs.train_one(config, name, pairs, frames, folder, remote=remote) for name in names)
    disk.write_table(folder / "runs.csv", table.drop(columns=["time", "saved"]))
    return {"runs": names, "steps": int(table["step"].iloc[0]), "loss": float(table["loss"].iloc[0])}


@workspace.step(reads=EVALUATE, after=train, keep=True)
def evaluate(config: TemporalCoherenceConfig, place: Workspace, folder: Path) -> dict:
    """Score every network and its baselines on the test clips; leaves `scores.csv`, `plane.csv` and `finetuning.csv`."""
    pairs = see(config.inputs, split.load(config, place).table("pairs"))
    frames = frames_of(config, place, pairs)
    trained = train.load(config, place)
    with runtime.precision(config.precision):
        scores = evaluation.score_all(config, pairs, frames, trained, folder)
        finetuning = evaluation.finetune_all(config, pairs, frames, trained, folder)
    disk.write_table(folder / "scores.csv", scores)
    disk.write_table(folder / "finetuning.csv", finetuning)
    test = pairs[pairs["split"] == "test"]
    return {
        "frames": len(test),
        "k": evaluation.cluster_count(config.clusters, pairs),
        "class_entropy": metrics.entropy(test["label"]),
        "scores": scores.set_index("features").to_dict("index"),
    }


STEPS = [build_dataset, preprocess, split, train, evaluate]
