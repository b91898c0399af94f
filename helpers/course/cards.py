"""Cards of the published weights: trained as `long.yaml` says, scored on mini's test side, and held to what their cards say.

The files themselves, and how a network gets them, are `helpers.course.weights`.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from helpers import runtime, workspace
from helpers.course import marks, weights
from helpers.workspace import disk

CARD = "CARD.md"
MOST = 4_000_000  # bytes of a project's files together
BLOCKS = 10  # parts of the test side that are left out in turn, at most
SCORED = ("baseline", "mini", "long")
CHECKED = ("baseline", "long")  # of mini's training every machine makes another network
RELATIVE, ABSOLUTE = 0.02, 0.002  # how far a score may be from the card's: other processors round otherwise
BEGIN, END = "<!-- numbers: begin (python -m helpers weights train writes them) -->", "<!-- numbers: end -->"
ABOUT = {
    "name": "weights",
    "title": "Weights of the course's own networks, trained on its drawn data",
    "licence": "Apache-2.0, as the repository",
    "citation": "Trained by this repository: python -m helpers weights train PROJECT. Each project's CARD.md tells how.",
    "terms": "None beyond the licence: no picture, clip or record of others went in.",
}


def compare(
    project: str, place: workspace.Workspace | str | Path, who: Collection[str] = SCORED
) -> dict[str, pd.DataFrame]:
    """Scores on mini's test side, what is missing is made first: for each of `who` a table with the columns score and spread.

    `baseline` needs no network, `mini` is trained by mini.yaml, `long` are the published weights. The spread is the standard error
    over the test side's groups (persons, authors, videos): each tenth of them is left out in turn (a jackknife).
    """
    mini, runs = weights.settings(project, "mini"), weights.room(project, "runs")
    done = workspace.ensure(_steps(project), "train" if "mini" in who else "split", mini, place)
    makers = {
        "baseline": lambda: None,
        "mini": lambda: runs.load_trained(mini, done["train"]),
        "long": runs.load_published,
    }
    judge = weights.room(project, runs.JUDGE).on_test
    return {name: with_spread(*judge(mini, done, makers[name]())) for name in who}


def with_spread(groups: Iterable, score: Callable[[np.ndarray], dict[str, float]]) -> pd.DataFrame:
    """Scores and their standard errors, by the delete-a-group jackknife.

    Args:
        groups: (N,) which group an item of the test side belongs to; a group stays together.
        score: of the items that a mask (N,) keeps.
    """
    groups = np.asarray(groups)
    names = np.unique(groups)
    parts = np.array_split(names, min(BLOCKS, len(names)))
    left = pd.DataFrame([score(~np.isin(groups, part)) for part in parts])
    errors = np.sqrt(((left - left.mean()) ** 2).sum() * (len(parts) - 1) / len(parts))
    return pd.DataFrame({"score": score(np.ones(len(groups), bool)), "spread": errors})


def shown(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Tables of `compare` side by side, as text: one row a score, one column for each that was scored."""
    return pd.DataFrame({name: table.map("{:.3f}".format).agg(" ± ".join, axis=1) for name, table in tables.items()})


def differences(project: str, found: dict[str, pd.DataFrame]) -> list[str]:
    """One sentence for each score of the `CHECKED` that is not what the card says, within 2 % and at least 0.002.

    FileNotFoundError, ValueError: there is no card, or no numbers in it.
    """
    said, card = read_card(project), _card(project)
    names = [name for name in CHECKED if name in found]
    measured = {(score, name): value for name in names for score, value in found[name]["score"].items()}
    lines = []
    for score, name in sorted(measured.keys() | {key for key in said if key[1] in names}):
        value, there = (numbers.get((score, name), np.nan) for numbers in (measured, said))
        if not abs(value - there) <= max(ABSOLUTE, RELATIVE * abs(there)):
            lines.append(f"{project}: {score} of {name} is {value:.3f}, {card} says {there:.3f}")
    return lines


def read_card(project: str) -> dict[tuple[str, str], float]:
    """The scores of a project's card, by score and column of its table."""
    target = weights.place_of(project, CARD)
    if not target.is_file():
        raise FileNotFoundError(f"{_card(project)} is not there: git checkout brings it back")
    rows = [line.strip("| ").split(" | ") for line in target.read_text(encoding="utf-8").splitlines() if "|" in line]
    head = next((row for row in rows if row[1:] == list(SCORED)), None)
    if head is None:
        again = f"python -m helpers weights train {project} writes it"
        raise ValueError(f"{_card(project)} has no table with the columns {', '.join(SCORED)}: {again}")
    numbers = [row for row in rows if len(row) == len(head) and re.match(r"-?\d", row[1])]
    return {
        (row[0], name): float(cell.split()[0]) for row in numbers for name, cell in zip(SCORED, row[1:], strict=True)
    }


# --- the two commands ---


def train(project: str, place: workspace.Workspace | str | Path) -> None:
    """Train by long.yaml, or go on with it, then write the weights, their entries in the manifest and the card's numbers."""
    long, runs = weights.settings(project), weights.room(project, "runs")
    done = workspace.ensure(_steps(project), "train", long, place)
    names = []
    for name, network in weights.by_name(project, runs.load_trained(long, done["train"])).items():
        names.append(weights.place_of(project, name))
        with disk.atomic_path(names[-1]) as temporary:
            network.save_weights(temporary)
    for name in getattr(runs, "TEXTS", ()):
        names.append(weights.place_of(project, name))
        disk.write(names[-1], (done["train"].folder / name).read_bytes())
    if (size := sum(target.stat().st_size for target in names)) > MOST:
        raise ValueError(f"the weights of {project} take {size} bytes together; allowed: {MOST}, so a smaller network")
    _write_manifest(project, names)
    _write_card(project, compare(project, place), [_length(project, name, place) for name in SCORED[1:]], names)


def problems(project: str, place: workspace.Workspace | str | Path) -> list[str]:
    """What is wrong with a project's published weights and their card, a sentence each; nothing if all is as they say."""
    try:
        files = [file.name for file in weights.manifest().files if file.name.split("/")[1] == project]
        if not files:
            raise ValueError(f"data_manifests/weights.yaml knows no weights: python -m helpers weights train {project}")
        for name in files:
            weights.path(project, name.rsplit("/", 1)[1])
        return differences(project, compare(project, place, CHECKED))
    except (ValueError, OSError) as error:
        return [f"{project}: {error}"]


def command(action: str, projects: list[str], place: Path) -> int:
    """`python -m helpers weights`; returns the exit code: 1 if something is not as the cards say.

    ValueError: an unknown project, or none to train.
    """
    trainable = sorted(found.parent.name for found in runtime.repo_root().glob("notebooks/*/long.yaml"))
    there = ", ".join(trainable)
    if unknown := sorted({*projects} - {*trainable}):
        raise ValueError(f"unknown project {unknown[0]!r}; there are: {there}")
    if action == "train" and not projects:
        raise ValueError(f"weights train wants a PROJECT, as it takes long; there are: {there}")
    runtime.quiet_start()
    wrong = []
    for project in sorted({*projects}) or trainable:
        if action == "train":
            train(project, place)
        wrong += (lines := problems(project, place))
        print("\n".join(lines or [f"{project}: the weights are what {_card(project)} says"]), flush=True)
    return int(bool(wrong))


# --- files of a project ---


def _card(project: str) -> str:
    return weights.label_of(weights.place_of(project, CARD))


def _steps(project: str) -> list[workspace.Step]:
    return weights.room(project, "steps").STEPS


def _write_manifest(project: str, files: list[Path]) -> None:
    """Put the files of a project in place of those that the manifest had of it."""
    target, url = runtime.repo_root() / "data_manifests" / "weights.yaml", runtime.repo_url()
    raw = url.replace("github.com", "raw.githubusercontent.com") + "/main"
    entries = [
        {
            "name": weights.label_of(file),
            "size": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "sources": [{"url": f"{raw}/{weights.label_of(file)}"}],
            "by_hand": f"python -m helpers weights train {project}",
        }
        for file in files
    ]
    old = yaml.safe_load(target.read_text(encoding="utf-8"))["files"] if target.is_file() else []
    entries += [entry for entry in old if entry["name"].split("/")[1] != project]
    about = ABOUT | {"homepage": url, "files": sorted(entries, key=lambda entry: entry["name"])}
    note = "# Written by python -m helpers weights train, read by helpers/course/weights.py.\n"
    disk.write(target, note + yaml.safe_dump(about, sort_keys=False, width=120, allow_unicode=True))


def _length(project: str, name: str, place: Any) -> str:
    """How long mini or long was trained: steps and minutes, of all its logs together."""
    (trains,) = (step for step in _steps(project) if step.trains)
    folder = trains.load(weights.settings(project, name), place).folder
    logs = pd.concat([pd.read_csv(log).tail(1) for log in sorted(folder.rglob("log.csv"))])
    several = f" in {len(logs)} trainings" if len(logs) > 1 else ""
    return f"{name} {logs['step'].sum()} steps{several}, {60 * logs['hours'].sum():.1f} minutes"


def _write_card(project: str, tables: dict[str, pd.DataFrame], told: list[str], files: list[Path]) -> None:
    """Renew the numbers between the card's two marks, or begin a card."""
    table = shown(tables)
    lines = ["", f"Trained: {'; '.join(told)}.", ""]
    lines += [f"| score | {' | '.join(SCORED)} |", "|---" * (1 + len(SCORED)) + "|"]
    lines += [f"| {score} | {' | '.join(row)} |" for score, *row in table.itertuples()]
    lines += ["", *(f"- `{file.name}`: {file.stat().st_size} bytes" for file in files), ""]
    target = weights.place_of(project, CARD)
    text = target.read_text(encoding="utf-8") if target.is_file() else f"# The weights of {project}\n\n{BEGIN}\n{END}\n"
    text = marks.fill(text, BEGIN, END, "\n".join(lines), name=_card(project))
    disk.write(target, text)
