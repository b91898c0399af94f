"""The five steps: `build_dataset`, `preprocess`, `split`, `train`, `evaluate`. Each is called as `step(config, workspace)`.

`reads` names the settings that decide a step's result; those that only decide how it is done (where checkpoints go, whether
a CPU is allowed) are left out, so that changing them throws nothing away.
"""

import functools
from pathlib import Path

import pandas as pd

from helpers import parallel, runtime, training, video, workspace
from helpers.config import MACHINE
from helpers.temporal_coherence import data, evaluation, losses, mini, model, sampling, splits, ucf101
from helpers.training import remote_log
from helpers.workspace import disk

CLIPS = "UCF-101"
LISTS = "ucfTrainTestlist"
CUT = ("step", "negative_every", "gap", "size", "quality")
SPLIT = ("split_by", "test_share", "validation_groups", "fold", "seed")
TRAIN = (
    *("variant", "embedding_dim", "normalize", "loss", "compare", "margin", "negatives", "augment", "optimizer"),
    *("learning_rate", "schedule", "batch_size", "epochs", "precision", "seed"),
)
EVALUATE = ("clusters", "cluster_seeds", "tsne_frames", "label_shares", "finetune_steps")


def fingerprint(config):
    """Names, sizes and times of a local folder's files, so that a changed folder makes a new data set."""
    return workspace.fingerprint_local(
        config,
        lambda root: (path for path in root.glob("*/*") if path.suffix.lower() in data.SUFFIXES),
        expected="one with a folder per class",
    )


@workspace.step(project="temporal_coherence", reads=("source", "local_folder", "classes"), fingerprint=fingerprint)
def build_dataset(config, place, folder):
    """Draw, fetch or find the clips and list them in `clips.csv`."""
    root = folder / CLIPS
    if config.source == "mini":
        drawn = mini.make_dataset(root)
        mini.write_lists(folder, drawn)
        classes = ()
    elif config.source == "ucf101":
        ucf101.fetch_clips(root, config.classes, cache=place.downloads)
        classes = config.classes
    else:
        root = Path(config.local_folder).expanduser().resolve()
        classes = config.classes
    clips = data.find_clips(root, classes)
    disk.write_table(folder / "clips.csv", clips)
    return {
        "root": str(root) if config.source == "local" else CLIPS,
        "clips": len(clips),
        "classes": sorted(clips["class"].unique()),
        "groups": len(clips.groupby(["class", "group"])),
    }


def clip_root(config, place) -> Path:
    """Folder that the paths in the table of clips start from."""
    result = build_dataset.load(config, place)
    return result.folder / result["root"]  # an absolute root wins


@workspace.step(reads=CUT, after=build_dataset)
def preprocess(config, place, folder):
    """Cut all clips into the frames of their pairs, in parallel; a clip that fails is recorded in `clips.csv`."""
    clips = build_dataset.load(config, place).table("clips")
    options = {name: getattr(config, name) for name in CUT}
    work = functools.partial(data.preprocess_clip, root=clip_root(config, place), folder=folder, options=options)
    done = video.parallel(work, clips.to_dict("records"), label="cutting clips")
    counts = ["decoded_frames", "header_frames", "pairs"]
    clips[counts] = done.reindex(columns=counts).fillna(0).astype(int).to_numpy()
    clips["error"] = done["error"]
    parallel.stop_at_disk_errors(done, "clips")
    good = clips[clips["error"] == ""]
    if good.empty:
        raise ValueError(f"not one of {len(clips)} clips could be cut; the first says: {clips['error'].iloc[0]}")
    data.remove_leftovers(folder)
    pairs = data.collect_pairs(folder, good["video"].tolist())
    disk.write_table(folder / "clips.csv", clips)
    disk.write_table(folder / "pairs.csv", pairs)
    return {
        "clips": len(good),
        "failed": len(clips) - len(good),
        "lying_headers": int((good["decoded_frames"] != good["header_frames"]).sum()),
        "queries": len(pairs),
        "negatives": int((pairs["path_next"] == "").sum()),
        "megabytes": round(sum(data.count_bytes(folder, name) for name in good["video"]) / 1e6, 2),
    }


@workspace.step(reads=SPLIT, after=preprocess)
def split(config, place, folder):
    """Put every clip on one side, check that no group is on two, and say so in `clips.csv` and `pairs.csv`."""
    cut = preprocess.load(config, place)
    clips = cut.table("clips").query("error == ''").reset_index(drop=True)
    clips["split"] = splits.assign_splits(
        clips,
        by=config.split_by,
        seed=config.seed,
        test_share=config.test_share,
        validation_groups=config.validation_groups,
        lists=official_lists(config, place) if config.split_by == "official" else None,
    )
    leaks = splits.check_leaks(clips, by=config.split_by)
    pairs = cut.table("pairs")
    pairs["split"] = pairs["video"].map(clips.set_index("video")["split"])
    disk.write_table(folder / "clips.csv", clips)
    disk.write_table(folder / "pairs.csv", pairs[pairs["split"] != ""])
    return {
        "clips": {side: int((clips["split"] == side).sum()) for side in ("train", "validation", "test")},
        "pairs": {side: int((pairs["split"] == side).sum()) for side in ("train", "validation", "test")},
        "in_no_list": int((clips["split"] == "").sum()),
        "leaking_groups": leaks,
        "warning": f"{len(leaks)} groups are on both sides: scores measure memory too" if leaks else "",
    }


def official_lists(config, place) -> tuple[list[str], list[str]]:
    """Training and test clips of the config's fold: of the drawn data set, or of UCF101 itself."""
    if config.source == "mini":
        return ucf101.read_lists(build_dataset.load(config, place).folder / LISTS, 1)
    return ucf101.official_lists(config.fold)


def frames_of(config, place, pairs: pd.DataFrame) -> sampling.Frames:
    """Reader of the frames that a table of pairs names."""
    return sampling.Frames(preprocess.load(config, place).folder, count=2 * len(pairs), size=config.size)


def build_network(config, loss: str, *, total_steps: int):
    """The siamese network of a config, compiled; the same seed gives the same first weights for every loss.

    Args:
        config: the project's config.
        loss: name of the loss.
        total_steps: length of the training, for the schedule.

    Returns:
        (siamese, trunk), sharing their weights.
    """
    runtime.set_seeds(config.seed)
    with training.strategy().scope():
        trunk = model.build_trunk(config.variant, config.embedding_dim, config.size)
        views = 4 if loss == "quadruplet" else 2
        siamese = model.build_siamese(trunk, views=views, normalize=config.normalize)
        siamese.compile(build_optimizer(config, total_steps), losses.build_loss(loss, config.margin))
    return siamese, trunk


def build_optimizer(config, total_steps: int):
    """SGD with momentum 0.9 or Adam, gradients clipped to a global norm of 5, on the config's schedule."""
    import keras

    rate = learning_rate(config, total_steps)
    if config.optimizer == "adam":
        return keras.optimizers.Adam(rate, global_clipnorm=5.0)
    return keras.optimizers.SGD(rate, momentum=0.9, global_clipnorm=5.0)


def learning_rate(config, total_steps: int):
    """The schedule: a number, or a Keras schedule of the step.

    "steps" divides by 10 at one and two thirds of the training. "thesis" is 1 / (1 + 0.1 t), which is what the thesis's
    `decay=0.1` means in Keras 2, counted in steps: after one epoch nothing is left of the rate.
    """
    import keras

    rate = config.learning_rate
    if config.schedule == "steps":
        ends = [total_steps // 3, 2 * total_steps // 3]
        return keras.optimizers.schedules.PiecewiseConstantDecay(ends, [rate, rate / 10, rate / 100])
    if config.schedule == "thesis":
        return keras.optimizers.schedules.InverseTimeDecay(rate, 1, 0.1)
    return rate


def train_one(config, loss: str, pairs: pd.DataFrame, frames: sampling.Frames, folder: Path, *, remote=None) -> dict:
    """Train one network in `folder/<loss>`, or go on with it; leaves `trunk.weights.h5` there and returns its last row."""
    rows = pairs[pairs["split"] == "train"]
    batches = sampling.build_batches(loss, rows, frames, config, everything=pairs)
    siamese, trunk = build_network(config, loss, total_steps=config.epochs * batches.steps_per_epoch)
    watch = evaluation.Watch(trunk, pairs[pairs["split"] == "validation"], frames, config)
    log = training.fit(
        siamese,
        lambda step: training.prefetch(batches.batch, step),
        run_dir=folder / loss,
        epochs=config.epochs,
        steps_per_epoch=batches.steps_per_epoch,
        validation=watch,
        checkpoint_every=config.checkpoint_every,
        save_every=config.save_every,
        seed=config.seed,
        remote=remote,
        config={"loss": loss} | {name: getattr(config, name) for name in TRAIN},
    )
    with disk.atomic_path(folder / loss / "trunk.weights.h5") as temporary:
        trunk.save_weights(temporary)
    return {"run": loss, "pairs_seen": batches.batch_size * int(log["step"].iloc[-1])} | log.iloc[-1].to_dict()


@workspace.step(reads=TRAIN, after=split, uses=MACHINE, keep=True)
def train(config, place, folder):
    """Train the network of `loss`, then those of `compare` from the same start with the same budget."""
    if config.source != "mini":
        runtime.require_gpu(config)
    pairs = split.load(config, place).table("pairs")
    frames = frames_of(config, place, pairs)
    names = list(dict.fromkeys((config.loss, *config.compare)))
    with runtime.precision(config.precision), remote_log.mirror(config, place) as remote:
        table = pd.DataFrame(train_one(config, name, pairs, frames, folder, remote=remote) for name in names)
    disk.write_table(folder / "runs.csv", table.drop(columns=["time", "saved"]))
    return {"runs": names, "steps": int(table["step"].iloc[0]), "loss": float(table["loss"].iloc[0])}


@workspace.step(reads=EVALUATE, after=train, keep=True)
def evaluate(config, place, folder):
    """Score every network and its baselines on the test clips; leaves `scores.csv`, `plane.csv` and `finetuning.csv`."""
    pairs = split.load(config, place).table("pairs")
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
        "k": evaluation.cluster_count(config, pairs),
        "class_entropy": evaluation.class_entropy(pairs),
        "scores": scores.set_index("features").to_dict("index"),
    }


STEPS = [build_dataset, preprocess, split, train, evaluate]
