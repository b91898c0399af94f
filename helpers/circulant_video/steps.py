"""The five steps: `build_dataset`, `preprocess`, `split`, `train`, `evaluate`. Each is called as `step(config, workspace)`.

`reads` names the settings that decide a step's result, `uses` those that only decide how it is done.
"""

import functools
import shutil
from pathlib import Path

import pandas as pd

from helpers import intake, parallel, runtime, workspace
from helpers.circulant_video import batches, data, evaluation, experiments, runs, splits
from helpers.circulant_video.config import CirculantVideoConfig
from helpers.circulant_video.mini import dataset
from helpers.circulant_video.sources import audioset, vocabulary, youtube8m
from helpers.config import MACHINE
from helpers.fetch import manifests
from helpers.training import remote_log
from helpers.workspace import Workspace, disk

LAYOUT = ("feature_names", "feature_sizes", "classes", "max_frames")


@workspace.step(
    project="circulant_video", reads=("source", "local_folder", "shard_part", "shard_of"), uses=("mirror", "keep_records"),
    fingerprint=functools.partial(workspace.fingerprint_local, expected="one that holds TFRecord files"),
)  # fmt: skip
def build_dataset(config: CirculantVideoConfig, place: Workspace, folder: Path) -> dict:
    """Draw, fetch or find the TFRecord files and list them in `shards.csv`."""
    root, later = folder / "records", []
    frame = root / "frame"
    if config.source == "mini":
        dataset.make_dataset(root)
    elif config.source == "youtube8m":
        shard = (config.shard_part, config.shard_of)
        for side in ("train", "validate"):
            entries = youtube8m.list_files(f"2/frame/{side}", frame, shard=shard, mirror=config.mirror)
            youtube8m.fetch_shards(entries if config.keep_records else youtube8m.to_look_at(entries), frame)
            later += [] if config.keep_records else entries
    elif config.source == "audioset":
        audioset.fetch(frame, cache=place.downloads / "audioset")
    else:
        root = frame = Path(config.local_folder).expanduser().resolve()
    found = intake.walk(frame, {intake.RECORDS})
    if not found.files:
        raise FileNotFoundError(f"no TFRecord file in {root.name}{found.first_reason()}")
    splits.split_shards(found.files)  # a name that is no shard's is refused before the work
    genuine = config.source in ("youtube8m", "audioset")
    if genuine and (names := vocabulary.fetch_names(config.source, place.downloads / config.source)):
        shutil.copyfile(names, root / "vocabulary.csv")
    shards = pd.DataFrame(
        {  # with its folders, for AudioSet has the same file names in three of them
            "shard": [path.with_suffix("").as_posix() for path in found.files],
            "path": [(frame / path).relative_to(root).as_posix() for path in found.files],
            "bytes": [(frame / path).stat().st_size for path in found.files],
        }
    )
    if later:
        shards = _with_addresses(shards, later)
    disk.write_table(folder / "shards.csv", shards)
    disk.write_table(folder / "left_out.csv", found.left_out)
    return {
        "root": str(root) if config.source == "local" else "records",
        "shards": len(shards),
        "left_out": len(found.left_out),
        "megabytes": round(shards["bytes"].sum() / 1e6, 2),
    }


def _with_addresses(shards: pd.DataFrame, entries: list[manifests.File]) -> pd.DataFrame:
    """The table of shards with those that are still at the server, and where each comes from."""
    rows = [(entry.name.removesuffix(".tfrecord"), entry.sources[0].url, entry.md5) for entry in entries]
    shards = shards.merge(pd.DataFrame(rows, columns=["shard", "url", "md5"]), on="shard", how="outer")
    shards["path"] = shards["path"].fillna("frame/" + shards["shard"] + ".tfrecord")
    return shards.assign(bytes=shards["bytes"].fillna(0).astype(int))


@workspace.step(reads=LAYOUT, after=build_dataset)
def preprocess(config: CirculantVideoConfig, place: Workspace, folder: Path) -> dict:
    """Turn every shard into plain arrays; records that cannot be used are listed in `problems.csv`, files in `shards.csv`."""
    built = build_dataset.load(config, place)
    shards = built.table("shards")
    layout = {name: getattr(config, name) for name in LAYOUT}
    work = functools.partial(data.convert_row, root=built.source_root, folder=folder, layout=layout)
    done = parallel.parallel(work, shards.to_dict("records"), what="shards", label="converting shards")
    youtube8m.stop_at_failures(done.loc[done["error"].str.startswith("DownloadError"), "error"].tolist(), len(done))
    good = parallel.usable(done, "shards")
    problems = [problem | {"file": row["path"]} for _, row in good.iterrows() for problem in row["problems"]]
    shards = shards.assign(error=done["error"])
    shards[["videos", "frames"]] = done.reindex(columns=["videos", "frames"]).fillna(0).astype(int).to_numpy()
    disk.write_table(folder / "shards.csv", shards)
    disk.write_table(folder / "problems.csv", pd.DataFrame(problems, columns=["file", "record", "reason"]))
    return {
        "shards": len(good),
        "failed": len(done) - len(good),
        "videos": int(good["videos"].sum()),
        "frames": int(good["frames"].sum()),
        "skipped_records": len(problems),
    }


@workspace.step(reads=("split_rule",), after=preprocess)
def split(config: CirculantVideoConfig, place: Workspace, folder: Path) -> dict:
    """Put every shard on one side and check that no video is on two."""
    prepared = preprocess.load(config, place)
    shards = prepared.table("shards").query("error == ''").reset_index(drop=True)
    shards = splits.assign_sides(shards, rule=config.split_rule)
    disk.write_table(folder / "shards.csv", shards)
    train_videos, validation = batches.open_sides(prepared.folder, shards)
    if not train_videos.label_shares().any():
        raise ValueError(
            "not one training video has a label; see problems.csv of the step before, and the records' `labels`"
        )
    if shared := set(train_videos.ids) & set(validation.ids):
        raise ValueError(f"{len(shared)} videos are on both sides of the split, such as {sorted(shared)[0]}")
    return {
        "videos": {side: int(shards.loc[shards["split"] == side, "videos"].sum()) for side in splits.SIDES},
        "shards": shards["split"].value_counts().to_dict(),
    }


def open_sides(config: CirculantVideoConfig, place: Workspace) -> tuple[batches.Videos, batches.Videos]:
    """Videos to train with, and held out: the sides "train" and "validation" of a finished split."""
    return batches.open_sides(preprocess.load(config, place).folder, split.load(config, place).table("shards"))


@workspace.step(reads=runs.TRAIN, after=split, uses=MACHINE, fingerprint=runs.fingerprint, keep=True)
def train(config: CirculantVideoConfig, place: Workspace, folder: Path) -> dict:
    """Train every network of the experiments once per seed; leaves all logs in `curves.csv`."""
    runtime.require_gpu(config)
    videos = open_sides(config, place)
    names = experiments.run_names(config.experiments, features=len(config.feature_sizes))
    logs = []
    with runtime.precision(config.precision), remote_log.mirror(config, place) as remote:
        for name in names:
            network = runs.compile_network(config, name)
            for seed in config.seeds:
                run_dir = folder / experiments.run_folder(name, seed)
                logs.append(runs.train_one(config, name, seed, videos, run_dir, network=network, remote=remote))
    curves = pd.concat(logs, ignore_index=True).drop(columns=["time", "saved"])
    disk.write_table(folder / "curves.csv", curves)
    return {"networks": names, "trainings": len(logs), "epochs": config.epochs}


@workspace.step(reads=(), after=train, keep=True)
def evaluate(config: CirculantVideoConfig, place: Workspace, folder: Path) -> dict:
    """Score every network on all held-out videos, beside the class prior; leaves `scores.csv`."""
    train_videos, validation = open_sides(config, place)
    trained = train.load(config, place)
    rows = [evaluation.score_prior(train_videos.label_shares(), validation)]
    options = {"trained": trained.folder, "folder": folder, "length": config.max_frames}
    with runtime.precision(config.precision):
        for name in trained["networks"]:
            network = runs.build_network(config, name)
            rows += evaluation.score_seeds(network, name, config.seeds, validation, **options)
    scores = pd.DataFrame(rows)
    disk.write_table(folder / "scores.csv", scores)
    best = scores.groupby("network", sort=False)["gap"].mean()
    return {"videos": len(validation), "prior_gap": float(best["class prior"]), "gap": best.round(4).to_dict()}


STEPS = [build_dataset, preprocess, split, train, evaluate]
