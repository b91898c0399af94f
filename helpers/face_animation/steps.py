"""The five steps: `build_dataset`, `preprocess`, `split`, `train`, `evaluate`. Each is called as `step(config, workspace)`.

`reads` names the settings that decide a step's result; `uses` those that only decide how it is done.
"""

from pathlib import Path

import pandas as pd

from helpers import intake, parallel, runtime, workspace
from helpers.config import MACHINE
from helpers.face_animation import animate, data, runs, splits
from helpers.face_animation.config import FaceAnimationConfig
from helpers.face_animation.evaluation import scoring
from helpers.face_animation.mini import dataset
from helpers.face_animation.sources import local, ravdess, voxceleb
from helpers.fetch import manifests
from helpers.training import remote_log
from helpers.workspace import Workspace, disk

MINI = {"people": (32, 6), "clips": 2}  # many puppets: with a dozen the networks learn these faces, not faces
DATASET = ("source", "local_folder", "more_puppets", "actors", "test_actors")
SPLIT = ("drop_shared", "group_size", "n_groups", "by_person", "drop_remainder", "group", "seed", "pairs", "pairs_file")
EVALUATE = ("relative", "adapt_scale", "start", "test_clips", "test_frames", "precision")


def fingerprint(config: FaceAnimationConfig) -> list | None:
    """Names, sizes and times of the local folder's files, so that a changed folder makes a new data set."""
    expected = "one with copies of the videos" if config.source == "voxceleb" else "one with train/ and test/, or clips"
    return workspace.fingerprint_local(config, expected=expected, sources=("local", "voxceleb"))


@workspace.step(project="face_animation", reads=DATASET, fingerprint=fingerprint)
def build_dataset(config: FaceAnimationConfig, place: Workspace, folder: Path) -> dict:
    """Draw, fetch or find the clips and list them in `clips.csv`; of VoxCeleb, those whose video the user has."""
    root, left_out = folder / "clips", intake.NOTHING
    if config.source == "mini":
        dataset.make_dataset(root, more=config.more_puppets, **MINI)
        clips = data.find_clips(root, jobs=-1)
    elif config.source == "ravdess":
        ravdess.fetch(root, config.actors, cache=place.downloads / "ravdess")
        clips = ravdess.list_clips(root, config.actors, test=config.test_actors, jobs=-1)
    else:
        root = Path(config.local_folder).expanduser().resolve()
        if config.source == "local":
            found = intake.walk(root, {intake.VIDEO, intake.PICTURE})
            clips, left_out = data.find_clips(found, jobs=-1), found.left_out
        else:
            manifest, downloads = manifests.load_manifest("voxceleb"), place.downloads / "voxceleb"
            path = manifests.fetch_all(manifest, downloads, names=[voxceleb.METADATA])[voxceleb.METADATA]
            clips = voxceleb.list_clips(voxceleb.read_metadata(path), root)
    clips.loc[(clips["error"] == "") & (clips["frames"] == 1), "error"] = "a single frame; expected a clip of 2 or more"
    left_out = intake.with_errors(left_out, clips, name="clip")
    disk.write_table(folder / "clips.csv", clips)
    disk.write_table(folder / "left_out.csv", left_out)
    good = parallel.usable(clips, "clips")
    return {
        "root": "clips" if config.source in ("mini", "ravdess") else str(root),
        "clips": {side: int((good["partition"] == side).sum()) for side in ("train", "test")},
        "persons": int(good["person"].nunique()),
        "frames": int(good["frames"].sum()),
        "left_out": len(left_out),
    }


@workspace.step(reads=("size", "form"), after=build_dataset)
def preprocess(config: FaceAnimationConfig, place: Workspace, folder: Path) -> dict:
    """Cut or resize every clip into one form and size; leaves `clips/` and `clips.csv`, with the reason where it failed."""
    before = build_dataset.load(config, place)
    clips = before.table("clips").query("error == ''").reset_index(drop=True)
    options = {"size": (config.size, config.size), "form": config.form}
    if config.source == "voxceleb":
        metadata = voxceleb.read_metadata(place.downloads / "voxceleb" / voxceleb.METADATA)
        clips = voxceleb.crop_all(clips, metadata, before.source_root, folder / "clips", **options)
    else:
        cut = ravdess.centre_square if config.source == "ravdess" else None
        clips = local.prepare_all(clips, before.source_root, folder / "clips", cut=cut, **options)
    disk.write_table(folder / "clips.csv", clips)
    good = parallel.usable(clips, "clips")
    return {"root": "clips", "clips": len(good), "failed": len(clips) - len(good), "frames": int(good["frames"].sum())}


@workspace.step(reads=SPLIT, after=preprocess)
def split(config: FaceAnimationConfig, place: Workspace, folder: Path) -> dict:
    """Draw groups, sides and pairs to animate: `groups.json`, `clips.csv` with group and side of each clip, `pairs.csv`."""
    clips = preprocess.load(config, place).table("clips").query("error == ''").drop(columns="error")
    test = clips[clips["partition"] == "test"]
    shared = (clips["partition"] == "train") & clips["person"].isin(test["person"])
    clips = clips[~shared] if config.drop_shared else clips
    train = clips[clips["partition"] == "train"]
    if train.empty or test.empty:
        raise ValueError(f"{len(train)} clips to train on and {len(test)} for the test; expected at least one of each")
    sizes = {name: getattr(config, name) for name in ("group_size", "n_groups", "seed", "by_person", "drop_remainder")}
    groups = splits.sample_groups(train["clip"], **sizes)
    if config.group >= len(groups):
        raise ValueError(
            f"group: received {config.group}; allowed: 0 to {len(groups) - 1}, there are {len(groups)} groups"
        )
    splits.write_groups(folder / "groups.json", groups, seed=config.seed, by_person=config.by_person)
    disk.write_table(folder / "clips.csv", splits.assign_sides(clips, groups, chosen=config.group))
    names = test["clip"].tolist()
    if config.pairs_file:
        pairs = splits.read_pairs(config.pairs_file, names=names, limit=config.pairs)
    else:
        pairs = splits.choose_pairs(names, config.pairs, seed=config.seed)
    disk.write_table(folder / "pairs.csv", pairs)
    return {
        "groups": [len(group) for group in groups],
        "test": len(test),
        "shared_persons": 0 if config.drop_shared else int(shared.sum()),
        "pairs": len(pairs),
    }


def clips_of(config: FaceAnimationConfig, place: Workspace, side: str) -> pd.DataFrame:
    """The prepared clips of a side: "train", the group that is trained on; "validation", other groups or persons; "test"."""
    return splits.clips_on(split.load(config, place).table("clips"), side)


@workspace.step(reads=runs.TRAIN, after=split, uses=(*MACHINE, "keep_clips"), keep=True)
def train(config: FaceAnimationConfig, place: Workspace, folder: Path) -> dict:
    """Train every variant on the same group; leaves a folder of weights for each, and all logs in `curves.csv`."""
    runtime.require_gpu(config)
    root, clips = preprocess.load(config, place).source_root, clips_of(config, place, "train")
    batches = runs.batches_of(config, clips, root)
    pairs = runs.watched_pairs(config, clips_of(config, place, "validation"), root)
    logs = {}
    with runtime.precision(config.precision), remote_log.mirror(config, place) as remote:
        for variant in config.variants:
            print(f"variant {variant}", flush=True)
            logs[variant] = runs.train_one(config, variant, batches, pairs, folder / variant, remote=remote)
    disk.write_table(folder / "curves.csv", pd.concat(logs.values(), ignore_index=True).drop(columns=["time", "saved"]))
    return {
        "clips": len(clips),
        "steps": int(logs[config.variants[0]]["step"].iloc[-1]),
        "watch_l1": {variant: round(float(log["watch_l1"].iloc[-1]), 4) for variant, log in logs.items()},
    }


@workspace.step(reads=EVALUATE, after=train, keep=True)
def evaluate(config: FaceAnimationConfig, place: Workspace, folder: Path) -> dict:
    """Reconstruct the test clips and animate the pairs; leaves `clips.csv`, `scores.csv`, `speed.csv` and `animations/`."""
    every, root = clips_of(config, place, "test"), preprocess.load(config, place).source_root
    test = every.head(config.test_clips)
    with runtime.precision(config.precision):
        animators = load_animators(config, place)
        drawers = {scoring.COPY: None, **animators}
        table = scoring.score_all(drawers, test, root, frames=config.test_frames)
        scores = scoring.summarise(table)
        if config.source == "mini":
            parts = (with_points(config, place, side) for side in ("train", "test"))
            scores = scores.merge(scoring.follow_points(drawers, *parts))
        trained = {name: animators[name] for name in config.variants}
        options = {"relative": config.relative, "adapt_scale": config.adapt_scale, "start": config.start}
        pairs = split.load(config, place).table("pairs")
        pairs = scoring.animate_pairs(pairs, every, root, trained, folder / "animations", **options)
        speed = scoring.measure_all(trained, test, root)
    tables = {"clips": table, "scores": scores, "pairs": pairs, "speed": speed}
    for name, found in tables.items():
        disk.write_table(folder / f"{name}.csv", found)
    return {
        "clips": len(test),
        "frames": int(table["frames"].sum()) // len(drawers),
        "l1": scores.set_index("drawer")["l1"].round(4).to_dict(),
    }


def load_animators(config: FaceAnimationConfig, place: Workspace) -> dict[str, animate.Animator]:
    """Every variant as the training left it, by name, and as it was before, "<name>, untrained"."""
    folder, found = train.load(config, place).folder, {}
    for variant in config.variants:
        for name, weights in ((variant, folder / variant), (f"{variant}, untrained", None)):
            found[name] = animate.Animator(*runs.load_networks(config, variant, weights), batch_size=scoring.BATCH)
    return found


def with_points(config: FaceAnimationConfig, place: Workspace, side: str) -> list[tuple]:
    """Frames of the clips of one side with the true points of the drawn faces, in pixels; of mini only."""
    clips, known = clips_of(config, place, side), dataset.read_points(build_dataset.load(config, place).source_root)
    read = scoring.read_clips(clips, preprocess.load(config, place).source_root, frames=config.test_frames)
    return [(frames, known[clip][numbers]) for clip, (frames, numbers) in zip(clips["clip"], read, strict=True)]


STEPS = [build_dataset, preprocess, split, train, evaluate]
