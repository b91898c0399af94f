"""Published weights: sums that are checked before use, cards whose numbers are held, and the two commands on a small project."""

from helpers import runtime

runtime.quiet_start()

import re
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from helpers.__main__ import main
from helpers.circulant_video import experiments, runs
from helpers.course import cards, weights
from helpers.course.notebooks import PROJECTS
from helpers.fetch import manifests
from helpers.lip_reading.mini import scenes
from helpers.lip_reading.sources import local
from helpers.workspace import code

SMALL = "circulant_video"
SETTINGS = {
    "experiments": ["start"], "seeds": [0], "epochs": 1, "clusters": 8, "hidden": 8, "mixtures": 1, "bags": 1, "watch_videos": 20,
}  # fmt: skip
FIRST = f"notebooks/{SMALL}/weights/dbof.weights.h5"


def take_root(patch, root):
    patch.setattr(runtime, "repo_root", lambda: root)
    patch.setattr(runtime, "repo_url", lambda: "https://github.com/someone/a-course")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A pretended repository with one small project, trained by the command, which was killed in its second training."""
    root = tmp_path_factory.mktemp("made")
    (root / "data_manifests").mkdir()
    folder = root / "notebooks" / SMALL
    folder.mkdir(parents=True)
    mini = yaml.safe_load((runtime.repo_root() / "notebooks" / SMALL / "mini.yaml").read_text()) | SETTINGS
    for name, more in (("mini", {}), ("long", {"epochs": 2})):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(mini | more))
    with pytest.MonkeyPatch.context() as patch:
        take_root(patch, root)
        patch.setitem(experiments.EXPERIMENTS, "start", experiments.PUBLISHED)  # two networks instead of six
        train_one = runs.train_one

        def dies(config, name, *arguments, **options):
            if name == "dbof fc":
                raise KeyboardInterrupt
            return train_one(config, name, *arguments, **options)

        patch.setattr(runs, "train_one", dies)
        assert main(["weights", "train", SMALL, "--workspace", str(root / "work")]) == 130
        (first,) = root.glob("work/*/3_train-*.partial/dbof-0/final.weights.h5")
        stamp = first.stat().st_mtime_ns
        patch.setattr(runs, "train_one", train_one)
        assert main(["weights", "train", SMALL, "--workspace", str(root / "work")]) == 0
        found = root.glob("work/*/3_train-*/dbof-0/final.weights.h5")
        assert any(path.stat().st_mtime_ns == stamp for path in found), (
            "what was finished before the kill was not trained again"
        )
    yield root


@pytest.fixture
def copy(made, tmp_path, monkeypatch):
    """What `made` left, to be broken; the workspace is shared."""
    for name in ("data_manifests", "notebooks"):
        shutil.copytree(made / name, tmp_path / name)
    take_root(monkeypatch, tmp_path)
    monkeypatch.setitem(experiments.EXPERIMENTS, "start", experiments.PUBLISHED)
    monkeypatch.setenv("COURSE_WORKSPACE", str(made / "work"))
    return tmp_path


def one_line(error):
    text = str(error.value)
    assert "\n" not in text and str(Path("/tmp")) not in text
    return text


# ---- the two commands ----


def test_what_was_trained_is_loaded_and_the_card_tells_its_scores(copy, capsys):
    assert main(["weights", "check"]) == 0
    assert f"{SMALL}: the weights are what notebooks/{SMALL}/weights/CARD.md says" in capsys.readouterr().out
    folder = copy / "notebooks" / SMALL / "weights"
    assert sorted(path.name for path in folder.iterdir()) == ["CARD.md", "dbof.weights.h5", "dbof_fc.weights.h5"]
    said = cards.read_card(SMALL)
    assert {name for _, name in said} == set(cards.SCORED) and {score for score, _ in said} == {
        "dbof: GAP",
        "dbof fc: GAP",
    }
    assert said["dbof: GAP", "baseline"] == said["dbof fc: GAP", "baseline"], "one prior for both"
    assert said["dbof: GAP", "mini"] != said["dbof: GAP", "long"]
    assert "Trained: mini 50 steps in 2 trainings, " in (folder / "CARD.md").read_text()
    sources = [
        source.url
        for file in manifests.load_manifest(copy / "data_manifests" / "weights.yaml").files
        for source in file.sources
    ]
    assert sources[0] == f"https://raw.githubusercontent.com/someone/a-course/main/{FIRST}"


def test_the_loaded_network_holds_the_numbers_of_the_file(copy):
    networks = runs.load_published()
    assert list(networks) == list(experiments.PUBLISHED)
    assert_same_numbers(copy / FIRST, networks["dbof"])


def test_a_card_that_says_another_number_fails(copy, capsys):
    card = copy / "notebooks" / SMALL / "weights" / "CARD.md"
    row = next(line for line in card.read_text().splitlines() if line.startswith("| dbof fc: GAP"))
    number = row.split("|")[4].split()[0]
    card.write_text(card.read_text().replace(row, row.replace(number, f"{float(number) * 1.1:.3f}")))
    assert main(["weights", "check", SMALL]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(SMALL)]
    assert f"dbof fc: GAP of long is {number}, notebooks/{SMALL}/weights/CARD.md says" in line


def flip(copy):
    data = bytearray((copy / FIRST).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / FIRST).write_bytes(data)


def drop_entry(copy):
    path = copy / "data_manifests" / "weights.yaml"
    manifest = yaml.safe_load(path.read_text())
    manifest["files"] = manifest["files"][1:]
    path.write_text(yaml.safe_dump(manifest))


def forget_numbers(copy):
    (copy / "notebooks" / SMALL / "weights" / "CARD.md").write_text("# A card\n")


BROKEN = [
    (flip, ValueError, [FIRST, "is not the published file", "found sha256", f"weights train {SMALL}"]),
    (lambda copy: (copy / FIRST).write_bytes(b"short"), ValueError, [FIRST, "found 5 bytes, expected"]),
    (lambda copy: (copy / FIRST).unlink(), FileNotFoundError, [FIRST, "is not there", f"git checkout {FIRST}"]),
    (drop_entry, ValueError, ["weights.yaml does not know", FIRST, "it knows", "dbof_fc"]),
]  # fmt: skip


@pytest.mark.parametrize("damage, error, words", BROKEN)
def test_a_damaged_file_is_refused_with_one_sentence(copy, damage, error, words):
    damage(copy)
    with pytest.raises(error) as caught:
        runs.load_published()
    assert all(word in one_line(caught) for word in words)


@pytest.mark.parametrize(
    "damage, words",
    [
        (flip, "is not the published file"),
        (lambda copy: (copy / FIRST).unlink(), "is not there"),
        (forget_numbers, "has no table with the columns baseline, mini, long"),
        (lambda copy: (copy / f"notebooks/{SMALL}/weights/CARD.md").unlink(), "CARD.md is not there"),
        (lambda copy: (copy / "data_manifests/weights.yaml").unlink(), "there is no file"),
    ],
)
def test_check_ends_with_1_and_says_what_is_wrong(copy, capsys, damage, words):
    damage(copy)
    assert main(["weights", "check", SMALL]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{SMALL}: ")]
    assert words in line


def test_a_kill_between_the_files_is_noticed_and_mended(copy, monkeypatch, capsys):
    for path in (copy / FIRST, copy / "data_manifests" / "weights.yaml", copy / f"notebooks/{SMALL}/weights/CARD.md"):
        path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(cards, "_write_card", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(["weights", "train", SMALL])
    assert main(["weights", "check"]) == 1 and "CARD.md is not there" in capsys.readouterr().out
    assert main(["weights", "train", SMALL]) == 0 and main(["weights", "check"]) == 0


def test_bad_arguments_and_too_large_a_network(copy, capsys, monkeypatch):
    assert main(["weights", "check", "nothing"]) == 1 and main(["weights", "train"]) == 1
    told = capsys.readouterr().err
    assert f"unknown project 'nothing'; there are: {SMALL}" in told and "weights train wants a PROJECT" in told
    monkeypatch.setattr(cards, "MOST", 1000)
    assert main(["weights", "train", SMALL]) == 1
    assert "bytes together; allowed: 1000" in capsys.readouterr().err


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0, 5.0, 3.0])
    table = cards.with_spread(range(10), lambda kept: {"mean": values[kept].mean()})
    assert np.isclose(table.loc["mean", "score"], 3.9)
    assert np.isclose(table.loc["mean", "spread"], values.std(ddof=1) / np.sqrt(10))
    twice = cards.with_spread([*range(10)] * 2, lambda kept: {"mean": np.tile(values, 2)[kept].mean()})
    assert np.isclose(twice.loc["mean", "spread"], table.loc["mean", "spread"]), "a group is one thing, however large"


# ---- the published files ----


def assert_same_numbers(path, network):
    """The weights of a network are those that h5py reads in a file, whatever their order."""
    stored = []
    with h5py.File(path) as file:
        file.visititems(lambda _, item: stored.append(item[()].ravel()) if isinstance(item, h5py.Dataset) else None)
    there = np.sort(np.concatenate([part for part in stored if part.dtype == np.float32]))
    assert np.array_equal(
        there, np.sort(np.concatenate([value.ravel() for value in network.get_weights() if value.dtype == np.float32]))
    )


@pytest.mark.parametrize("project", PROJECTS)
def test_published_weights_load_here_and_fit_their_limits(project):
    room = weights.room(project, "runs")
    networks = weights.by_name(project, room.load_published())
    for name, network in networks.items():
        assert_same_numbers(weights.path(project, name), network)
        assert all(np.isfinite(value).all() for value in network.get_weights())
    folder = runtime.repo_root() / "notebooks" / project / "weights"
    assert sum(path.stat().st_size for path in folder.iterdir()) <= cards.MOST
    known = {file.name for file in manifests.load_manifest("weights").files}
    assert {
        path.relative_to(runtime.repo_root()).as_posix() for path in folder.iterdir() if path.name != "CARD.md"
    } <= known


def test_the_words_of_the_published_reader_are_those_of_its_training():
    room = weights.room("lip_reading", "runs")
    assert room.published_words() == local.class_names([*scenes.WORDS, *scenes.WORDS])


@pytest.mark.parametrize("project", PROJECTS)
def test_a_card_tells_what_a_reader_must_know(project):
    text = (runtime.repo_root() / "notebooks" / project / "weights" / "CARD.md").read_text(encoding="utf-8")
    for heading in ("## Data", "## Training", "## Scores", "## Limits", "## Licence"):
        assert f"\n{heading}\n" in text
    assert f"python -m helpers weights train {project}" in text and "seed" in text
    assert len(cards.read_card(project)) >= 6


@pytest.mark.parametrize("project", PROJECTS)
def test_no_training_is_made_by_the_code_of_cards(project):
    (train,) = (step for step in weights.room(project, "steps").STEPS if step.trains)
    files = code.fingerprint(train.body)
    assert "helpers/course/weights.py" in files and "helpers/course/cards.py" not in files


# Of the data: what is drawn, and who is taken, for training alone.
TRAINED_ON = ("more_groups", "more_puppets", "n_groups")


@pytest.mark.parametrize("project", PROJECTS)
def test_long_differs_from_mini_in_its_training_alone(project, tmp_path):
    mini, long = weights.settings(project, "mini"), weights.settings(project)
    assert mini != long and beyond_training(project, mini, long, tmp_path) == set()


def beyond_training(project, mini, long, place):
    """Settings that differ and that data, sides or scores know; a step's name where it is another in some other way."""
    *data, train, evaluate = weights.room(project, "steps").STEPS
    long = replace(long, **{name: getattr(mini, name) for name in TRAINED_ON if hasattr(mini, name)})
    changed = {name for name in vars(mini) if getattr(mini, name) != getattr(long, name)}
    others = {step.name for step in data if step.folder(mini, place) != step.folder(long, place)}
    return (changed - {*train.reads, *train.uses}) | (changed & {*evaluate.reads}) | others


@pytest.mark.parametrize(
    ("project", "change"),
    [
        ("temporal_coherence", {"classes": ("Archery", "Bowling")}),
        ("temporal_coherence", {"seed": 9}),  # of the training, and of the sides
        ("circulant_video", {"split_rule": "official"}),
        ("boat_detection", {"confidence": 0.9}),
        ("lip_reading", {"test_share": 0.3}),
        ("face_animation", {"test_clips": 1}),
        ("face_animation", {"size": 32}),
    ],
)
def test_a_setting_of_the_data_or_of_the_test_is_no_setting_of_the_training(project, change, tmp_path):
    mini = weights.settings(project, "mini")
    assert vars(mini) | change != vars(mini)
    assert beyond_training(project, mini, replace(mini, **change), tmp_path)


def test_the_table_in_readme_says_what_the_cards_say():
    text = (runtime.repo_root() / "README.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (\w+) \| ([^|,]+)(?:, [^|]+)? \| (.+) \| (\d+) \| \[card\]\(notebooks/(\w+)/", text, re.MULTILINE
    )
    assert [row[0] for row in rows] == [*PROJECTS] == [row[4] for row in rows]
    for project, score, numbers, minutes, _ in rows:
        card = (runtime.repo_root() / "notebooks" / project / "weights" / "CARD.md").read_text(encoding="utf-8")
        assert f"| {score.strip()} | {numbers} |" in card
        assert round(float(re.search(r"; long .*, ([\d.]+) minutes", card)[1])) == int(minutes)
