"""The five steps: `build_dataset`, `preprocess`, `split`, `train`, `evaluate`. Each is called as `step(config, workspace)`.

`reads` names the settings that decide a step's result; those that only decide how it is done are left out.
"""

from pathlib import Path

import pandas as pd

from helpers import runtime, workspace
from helpers.config import MACHINE
from helpers.face_animation import animate, data, evaluation, mini, prepare, runs, voxceleb
from helpers.fetch import manifests
from helpers.training import remote_log
from helpers.workspace import disk

METADATA = "vox-metadata.csv"
BATCH = 16  # frames at a time
MINI = {"people": (32, 6), "clips": 2}  # many puppets: with a dozen the networks learn these faces, not faces
NO_GROUP = -1  # of clips of the test, and of those that drop_remainder leaves over
SPLIT = ("drop_shared", "group_size", "n_groups", "by_person", "drop_remainder", "group", "seed", "pairs", "pairs_file")
EVALUATE = ("relative", "adapt_scale", "start", "test_clips", "test_frames", "precision")


def fingerprint(config):
    """Names, sizes and times of the local folder's files, so that a changed folder makes a new data set."""
    suffixes = voxceleb.SUFFIXES if config.source == "voxceleb" else tuple(data.FORMS)
    return workspace.fingerprint_local(
        config,
        lambda root: (path for path in root.rglob("*") if path.suffix.lower() in suffixes and path.is_file()),
        expected="one with copies of the videos"
        if config.source == "voxceleb"
        else "one with train/ and test/, or clips",
        sources=("local", "voxceleb"),
    )


@workspace.step(project="face_animation", reads=("source", "local_folder"), fingerprint=fingerprint)
def build_dataset(config, place, folder):
    """Draw or find the clips and list them in `clips.csv`; of VoxCeleb, those whose video the user has."""
    root = folder / "clips"
    if config.source == "mini":
        mini.make_dataset(root, **MINI)
        clips = data.find_clips(root, jobs=-1)
    elif config.source == "local":
        root = Path(config.local_folder).expanduser().resolve()
        clips = data.find_clips(root, jobs=-1, seed=0)
    else:
        manifest = manifests.load_manifest("voxceleb")
        path = manifests.fetch_all(manifest, place.downloads / "voxceleb", names=[METADATA])[METADATA]
        root = Path(config.local_folder).expanduser().resolve()
        clips = prepare.list_voxceleb(voxceleb.read_metadata(path), root)
    clips.loc[(clips["error"] == "") & (clips["frames"] == 1), "error"] = "a single frame; expected a clip of 2 or more"
    disk.write_table(folder / "clips.csv", clips)
    good = clips[clips["error"] == ""]
    if good.empty:
        raise ValueError(f"not one of {len(clips)} clips can be used; the first says: {clips['error'].iloc[0]}")
    return {
        "root": str(root) if config.source != "mini" else "clips",
        "clips": {side: int((good["partition"] == side).sum()) for side in ("train", "test")},
        "persons": int(good["person"].nunique()),
        "frames": int(good["frames"].sum()),
        "not_usable": len(clips) - len(good),
    }


def source_root(config, place) -> Path:
    """Folder that the paths of build_dataset's `clips.csv` start from."""
    result = build_dataset.load(config, place)
    return result.folder / result["root"]  # an absolute root wins


@workspace.step(reads=("size", "form"), after=build_dataset)
def preprocess(config, place, folder):
    """Cut or resize every clip into one form and size; leaves `clips/` and `clips.csv`, with the reason where it failed."""
    clips = build_dataset.load(config, place).table("clips").query("error == ''").reset_index(drop=True)
    root, options = source_root(config, place), {"size": (config.size, config.size), "form": config.form}
    if config.source == "voxceleb":
        metadata = voxceleb.read_metadata(place.downloads / "voxceleb" / METADATA)
        clips = prepare.crop_voxceleb(clips, metadata, root, folder / "clips", **options)
    else:
        clips = prepare.prepare_all(clips, root, folder / "clips", **options)
    disk.write_table(folder / "clips.csv", clips)
    good = clips[clips["error"] == ""]
    if good.empty:
        raise ValueError(f"not one of {len(clips)} clips can be used; the first says: {clips['error'].iloc[0]}")
    return {"clips": len(good), "failed": len(clips) - len(good), "frames": int(good["frames"].sum())}


@workspace.step(reads=SPLIT, after=preprocess)
def split(config, place, folder):
    """Draw the groups and the pairs to animate; leaves `groups.json`, `clips.csv` with the group of each clip, `pairs.csv`."""
    clips = preprocess.load(config, place).table("clips").query("error == ''").drop(columns="error")
    test = clips[clips["partition"] == "test"]
    train = clips[clips["partition"] == "train"]
    shared = train["person"].isin(test["person"])
    train = train[~shared] if config.drop_shared else train
    if train.empty or test.empty:
        raise ValueError(f"{len(train)} clips to train on and {len(test)} for the test; expected at least one of each")
    sizes = {name: getattr(config, name) for name in ("group_size", "n_groups", "seed", "by_person", "drop_remainder")}
    groups = data.sample_groups(train["clip"], **sizes)
    if config.group >= len(groups):
        raise ValueError(
            f"group: received {config.group}; allowed: 0 to {len(groups) - 1}, there are {len(groups)} groups"
        )
    data.write_groups(folder / "groups.json", groups, seed=config.seed, by_person=config.by_person)
    member = {name: number for number, group in enumerate(groups) for name in group}
    clips = pd.concat(
        [train.assign(group=train["clip"].map(member).fillna(NO_GROUP).astype(int)), test.assign(group=NO_GROUP)]
    )
    disk.write_table(folder / "clips.csv", clips.reset_index(drop=True))
    pairs = choose_pairs(config, test["clip"].tolist())
    disk.write_table(folder / "pairs.csv", pairs)
    return {
        "groups": [len(group) for group in groups],
        "test": len(test),
        "shared_persons": int(clips.loc[clips["partition"] == "train", "person"].isin(test["person"]).sum()),
        "pairs": len(pairs),
    }


def choose_pairs(config, names: list[str]) -> pd.DataFrame:
    """Pairs of test clips to animate, source and driving: from the config's file, or drawn, of two persons where there are two."""
    if config.pairs_file:
        path = Path(config.pairs_file).expanduser()
        found = data.read_pairs(path, names=names, limit=config.pairs)
        if found.empty:
            raise ValueError(
                f"{path.name}: not one pair of clips that are there; expected clips of the test, such as {names[0]!r}"
            )
        return found
    pairs = data.draw_pairs(names, len(names) ** 2, seed=config.seed)
    other = pairs["source"].map(data.person_of) != pairs["driving"].map(data.person_of)
    return (pairs[other] if other.any() else pairs).head(config.pairs).reset_index(drop=True)


def clips_of(config, place, side: str) -> pd.DataFrame:
    """Clips of a side: "train", the group that is trained on; "unseen", other groups, or without any the test; "test"."""
    clips = split.load(config, place).table("clips")
    test, member = clips["partition"] == "test", clips["group"] == config.group
    other = ~test & ~member & (clips["group"] != NO_GROUP)
    sides = {"train": member & ~test, "unseen": other if other.any() else test, "test": test}
    return clips[sides[side]].reset_index(drop=True)


def clip_root(config, place) -> Path:
    """Folder of the prepared clips."""
    return preprocess.load(config, place).folder / "clips"


@workspace.step(reads=runs.TRAIN, after=split, uses=MACHINE, keep=True)
def train(config, place, folder):
    """Train every variant on the same group; leaves a folder of weights for each, and all logs in `curves.csv`."""
    if config.source != "mini":
        runtime.require_gpu(config)
    clips, unseen, root = clips_of(config, place, "train"), clips_of(config, place, "unseen"), clip_root(config, place)
    logs = []
    with runtime.precision(config.precision), remote_log.mirror(config, place) as remote:
        for variant in config.variants:
            print(f"variant {variant}", flush=True)
            logs.append(runs.train_one(config, variant, clips, unseen, root, folder / variant, remote=remote))
    disk.write_table(folder / "curves.csv", pd.concat(logs, ignore_index=True).drop(columns=["time", "saved"]))
    return {
        "clips": len(clips),
        "steps": int(logs[0]["step"].iloc[-1]),
        "watch_l1": {
            variant: round(float(log["watch_l1"].iloc[-1]), 4)
            for variant, log in zip(config.variants, logs, strict=True)
        },
    }


@workspace.step(reads=EVALUATE, after=train, keep=True)
def evaluate(config, place, folder):
    """Reconstruct the test clips and animate the pairs; leaves `clips.csv`, `scores.csv`, `speed.csv` and `animations/`."""
    every, root = clips_of(config, place, "test"), clip_root(config, place)
    test = every.head(config.test_clips)
    with runtime.precision(config.precision):
        animators = load_animators(config, place)
        drawers = {evaluation.COPY: None, **animators}
        table = evaluation.score_all(drawers, test, root, frames=config.test_frames)
        scores = evaluation.summarise(table)
        if config.source == "mini":
            parts = (with_points(config, place, side) for side in ("train", "test"))
            scores = scores.merge(evaluation.follow_points(drawers, *parts))
        trained = {name: animators[name] for name in config.variants}
        pairs = split.load(config, place).table("pairs")
        pairs = evaluation.animate_pairs(config, pairs, every, root, trained, folder / "animations")
        clip = data.read_clip(root / test["path"].iloc[0])
        speed = [evaluation.measure(name, animator, clip) for name, animator in trained.items()]
    disk.write_table(folder / "clips.csv", table)
    disk.write_table(folder / "scores.csv", scores)
    disk.write_table(folder / "pairs.csv", pairs)
    disk.write_table(folder / "speed.csv", pd.DataFrame(speed))
    return {
        "clips": len(test),
        "frames": int(table["frames"].sum()) // len(drawers),
        "l1": scores.set_index("drawer")["l1"].round(4).to_dict(),
    }


def load_animators(config, place) -> dict[str, animate.Animator]:
    """Every variant as the training left it, by name, and as it was before, "<name>, untrained"."""
    folder, found = train.load(config, place).folder, {}
    for variant in config.variants:
        found[variant] = animate.Animator(*runs.load_networks(config, variant, folder / variant), batch_size=BATCH)
        found[f"{variant}, untrained"] = animate.Animator(*runs.load_networks(config, variant), batch_size=BATCH)
    return found


def with_points(config, place, side: str) -> list[tuple]:
    """Frames of the clips of one side with the true points of the drawn faces, in pixels; of mini only."""
    clips, known = clips_of(config, place, side), mini.read_points(source_root(config, place))
    read = evaluation.read_clips(clips, clip_root(config, place), frames=config.test_frames)
    return [(frames, known[clip][numbers]) for clip, (frames, numbers) in zip(clips["clip"], read, strict=True)]


STEPS = [build_dataset, preprocess, split, train, evaluate]
