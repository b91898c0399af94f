"""The five steps: `build_dataset`, `preprocess`, `split`, `train`, `evaluate`. Each is called as `step(config, workspace)`.

`reads` names the settings that decide a step's result; those that only decide how it is done are left out.
"""

import functools
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import parallel, runtime, training, video, workspace
from helpers.circulant_video import cache, evaluation, losses, mini, model, runs, youtube8m
from helpers.config import MACHINE
from helpers.training import remote_log
from helpers.workspace import disk

PARTITIONS = ("2/frame/train", "2/frame/validate")
LAYOUT = ("feature_names", "feature_sizes", "classes", "max_frames")
TRAIN = (
    *("experiments", "seeds", "clusters", "vlad_clusters", "hidden", "mixtures", "bags", "iterations", "halves"),
    *("momentum", "batch_size", "epochs", "learning_rate", "decay", "decay_examples", "watch_videos", "precision"),
)


def fingerprint(config):
    """Names, sizes and times of a local folder's files, so that a changed folder makes a new data set."""
    return workspace.fingerprint_local(
        config, lambda root: root.rglob("*.tfrecord"), expected="one that holds .tfrecord files"
    )


@workspace.step(
    project="circulant_video", reads=("source", "local_folder", "shard_part", "shard_of"), fingerprint=fingerprint
)
def build_dataset(config, place, folder):
    """Draw, fetch or find the TFRecord files and list them in `shards.csv`."""
    root = folder / "records"
    frame = root / "frame"
    if config.source == "mini":
        mini.make_dataset(root)
    elif config.source == "youtube8m":
        for partition in PARTITIONS:
            shard = (config.shard_part, config.shard_of)
            youtube8m.fetch_shards(partition, frame, shard=shard, mirror=config.mirror)
    elif config.source == "audioset":
        youtube8m.fetch_audioset(frame, cache=place.downloads / "audioset")
    else:
        root = frame = Path(config.local_folder).expanduser().resolve()
    files = sorted(frame.rglob("*.tfrecord"))
    if not files:
        raise FileNotFoundError(f"no .tfrecord file in {root}")
    shards = pd.DataFrame(
        {  # with its folders, for AudioSet has the same file names in three of them
            "shard": [path.relative_to(frame).with_suffix("").as_posix() for path in files],
            "path": [path.relative_to(root).as_posix() for path in files],
            "bytes": [path.stat().st_size for path in files],
        }
    )
    disk.write_table(folder / "shards.csv", shards)
    return {
        "root": str(root) if config.source == "local" else "records",
        "shards": len(shards),
        "megabytes": round(shards["bytes"].sum() / 1e6, 2),
    }


def record_root(config, place) -> Path:
    """Folder that the paths of `shards.csv` start from."""
    result = build_dataset.load(config, place)
    return result.folder / result["root"]  # an absolute root wins


@workspace.step(reads=LAYOUT, after=build_dataset)
def preprocess(config, place, folder):
    """Turn every shard into plain arrays; records that cannot be used are listed in `problems.csv`, files in `shards.csv`."""
    shards = build_dataset.load(config, place).table("shards")
    layout = {name: getattr(config, name) for name in LAYOUT}
    work = functools.partial(cache.convert_row, root=record_root(config, place), folder=folder, layout=layout)
    done = video.parallel(work, shards.to_dict("records"), label="converting shards")
    parallel.stop_at_disk_errors(done, "shards")
    good = done[done["error"] == ""]
    if good.empty:
        raise ValueError(f"not one of {len(done)} shards could be read; the first says: {done['error'].iloc[0]}")
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
def split(config, place, folder):
    """Put every shard on one side and check that no video is on two."""
    shards = preprocess.load(config, place).table("shards").query("error == ''").reset_index(drop=True)
    sides = youtube8m.split_shards(shards["path"], rule=config.split_rule)
    side_of = {path.as_posix(): side for side, paths in sides.items() for path in paths}
    shards["split"] = shards["path"].map(side_of)
    disk.write_table(folder / "shards.csv", shards)
    videos = {side: videos_of(config, place, shards, side) for side in ("train", "validation")}
    shared = set(videos["train"].ids) & set(videos["validation"].ids)
    if shared:
        raise ValueError(f"{len(shared)} videos are on both sides of the split, such as {sorted(shared)[0]}")
    return {
        "videos": {side: int(shards.loc[shards["split"] == side, "videos"].sum()) for side in sides},
        "shards": shards["split"].value_counts().to_dict(),
    }


def videos_of(config, place, shards: pd.DataFrame, side: str) -> cache.Videos:
    """The converted videos of one side of the split."""
    names = shards.loc[shards["split"] == side, "shard"].tolist()
    if not names:
        raise ValueError(f"no shard is on the side {side}; expected train* and validate*, or bal_train/ and eval/")
    return cache.Videos(preprocess.load(config, place).folder / "frames", names)


def sides_of(config, place) -> tuple[cache.Videos, cache.Videos]:
    """Training and held-out videos."""
    shards = split.load(config, place).table("shards")
    return videos_of(config, place, shards, "train"), videos_of(config, place, shards, "validation")


def build_network(config, name: str):
    """One network of the experiments, compiled as the original's: Adam, each gradient clipped to norm 1, a staircase."""
    import keras

    every = max(1, config.decay_examples // config.batch_size)
    rate = keras.optimizers.schedules.ExponentialDecay(config.learning_rate, every, config.decay, staircase=True)
    with training.strategy().scope():
        classifier = model.build_classifier(**runs.build_arguments(name, config))
        classifier.compile(keras.optimizers.Adam(rate, epsilon=1e-8, clipnorm=1.0), losses.SummedCrossEntropy())
        classifier.optimizer.build(classifier.trainable_variables)
    return classifier


def start_anew(classifier, config, name: str, seed: int) -> None:
    """Give a network the first weights of a seed and its optimiser no past: one network serves all seeds, and is traced once."""
    runtime.set_seeds(seed)
    fresh = model.build_classifier(**runs.build_arguments(name, config), seed=seed)
    for variable, value in zip(classifier.variables, fresh.variables, strict=True):
        variable.assign(value)
    for variable in classifier.optimizer.variables:
        scale = variable.path.endswith("dynamic_scale")  # of the loss, under mixed_float16: at 0 all weights become NaN
        variable.assign(np.full(variable.shape, classifier.optimizer.initial_scale if scale else 0))


def train_one(
    config, name: str, seed: int, videos: tuple, folder: Path, *, classifier=None, remote=None
) -> pd.DataFrame:
    """Train one network with one seed in `folder`, or go on with it; returns its log, GAP on held-out videos included."""
    train_videos, held_out = videos
    options = {"batch_size": config.batch_size, "length": config.max_frames, "halves": config.halves, "seed": seed}
    batches = cache.Batches(train_videos, **options)
    classifier = classifier or build_network(config, name)
    start_anew(classifier, config, name, seed)
    rows = np.arange(min(config.watch_videos, len(held_out)))
    log = training.fit(
        classifier,
        lambda step: training.prefetch(batches.batch, step),
        run_dir=folder,
        epochs=config.epochs,
        steps_per_epoch=batches.steps_per_epoch,
        validation=lambda: evaluation.score(classifier, held_out, rows, length=config.max_frames),
        checkpoint_every=config.checkpoint_every,
        save_every=config.save_every,
        seed=seed,
        remote=remote,
        config={"network": name} | {key: getattr(config, key) for key in TRAIN},
    )
    return log.assign(network=name, seed=seed, parameters=evaluation.count_parameters(classifier))


@workspace.step(reads=TRAIN, after=split, uses=MACHINE, keep=True)
def train(config, place, folder):
    """Train every network of the experiments once per seed; leaves all logs in `curves.csv`."""
    if config.source != "mini":
        runtime.require_gpu(config)
    videos = sides_of(config, place)
    names = runs.run_names(config.experiments, features=len(config.feature_sizes))
    logs = []
    with runtime.precision(config.precision), remote_log.mirror(config, place) as remote:
        for name in names:
            classifier = build_network(config, name)
            for seed in config.seeds:
                run_dir = folder / f"{name.replace(' ', '_')}-{seed}"
                options = {"classifier": classifier, "remote": remote}
                logs.append(train_one(config, name, seed, videos, run_dir, **options))
    curves = pd.concat(logs, ignore_index=True).drop(columns=["time", "saved"])
    disk.write_table(folder / "curves.csv", curves)
    return {"networks": names, "trainings": len(logs), "epochs": config.epochs}


@workspace.step(reads=(), after=train, keep=True)
def evaluate(config, place, folder):
    """Score every network on all held-out videos, beside the class prior; leaves `scores.csv`."""
    train_videos, held_out = sides_of(config, place)
    trained = train.load(config, place)
    rows = []
    with runtime.precision(config.precision):
        for name in trained["networks"]:
            for seed in config.seeds:
                rows.append(evaluation.score_run(config, name, seed, held_out, trained.folder, folder))
    scores = pd.DataFrame([evaluation.score_prior(train_videos, held_out), *rows])
    disk.write_table(folder / "scores.csv", scores)
    best = scores.groupby("network", sort=False)["gap"].mean()
    return {"videos": len(held_out), "prior_gap": float(best["class prior"]), "gap": best.round(4).to_dict()}


STEPS = [build_dataset, preprocess, split, train, evaluate]
