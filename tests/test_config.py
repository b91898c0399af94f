"""`helpers.config`: a table of bad files, each with the words that its error must contain."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers import config
from helpers.config import option, problems_between


@dataclass(frozen=True)
class Inner:
    width: int = option(3, low=1)


@dataclass(frozen=True)
class Schema:
    name: str = option(choices=("tiny", "large"))
    rate: float = option(0.1, above=0.0, high=1.0, help="learning rate")
    epochs: int = option(5, low=1)
    verbose: bool = option(False)
    every: int | None = option(None, low=1)
    classes: tuple[str, ...] = option(())
    folder: str = option("here", low=1)
    shares: tuple[float, ...] = option((0.5,), above=0.0, high=1.0)
    inner: Inner = option(Inner)

    def __post_init__(self):
        problems_between((self.epochs == 13, "epochs: 13 brings bad luck with this test"))


def load(tmp_path, text):
    path = tmp_path / "case.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return config.load(path, Schema)


def test_values_and_defaults(tmp_path):
    found = load(tmp_path, "name: tiny\nrate: 1\nevery: 2\nclasses: [a, b]\nshares: [1e-4, 1]\ninner: {width: 7}\n")
    assert found == Schema("tiny", 1.0, 5, False, 2, ("a", "b"), "here", (1e-4, 1.0), Inner(7))
    assert type(found.rate) is float and type(found.shares[1]) is float
    assert load(tmp_path, "name: large\n").inner == Inner(3)


@pytest.mark.parametrize("text, value", [("1e-4", 1e-4), ("1E-2", 1e-2), ('"0.25"', 0.25), ("1", 1.0), (".5", 0.5)])
def test_floats_that_yaml_reads_as_something_else(tmp_path, text, value):
    assert load(tmp_path, f"name: tiny\nrate: {text}\n").rate == value


def test_null_and_byte_order_mark(tmp_path):
    assert load(tmp_path, b"\xef\xbb\xbfname: tiny\nevery: null\n").every is None


@pytest.mark.parametrize(
    "text, words",
    [
        ("rate: 0.1\n", ["name", "missing", "tiny, large"]),
        ("name: huge\n", ["name", "'huge'", "one of tiny, large"]),
        ("name: Tiny\n", ["name", "did you mean tiny?"]),
        ("name: tiny\nepoch: 3\n", ["epoch", "unknown key", "did you mean epochs?"]),
        ("name: tiny\nzzz: 3\n", ["zzz", "unknown key", "allowed: name, rate"]),
        ("name: tiny\nepochs: true\n", ["epochs", "True (bool)", "an integer, at least 1"]),
        ("name: tiny\nepochs: 2.0\n", ["epochs", "2.0 (float)", "an integer"]),
        ("name: tiny\nepochs: 0\n", ["epochs", "0 (int)", "at least 1"]),
        ("name: tiny\nepochs: null\n", ["epochs", "None", "an integer"]),
        ("name: tiny\nrate: true\n", ["rate", "True (bool)", "a number, above 0.0, at most 1.0"]),
        ("name: tiny\nrate: 0\n", ["rate", "above 0.0"]),
        ("name: tiny\nrate: 1.1\n", ["rate", "at most 1.0"]),
        ("name: tiny\nrate: .nan\n", ["rate", "not a finite number"]),
        ("name: tiny\nrate: fast\n", ["rate", "'fast' (str)", "a number"]),
        (f"name: tiny\nrate: 1{'0' * 400}\n", ["rate", "1000", "a number"]),
        (f"name: tiny\nverbose: 0x{'f' * 5000}\n", ["verbose", "too long to show", "true or false"]),
        (f"name: tiny\nepochs: {'9' * 5000}\n", ["not valid YAML"]),
        ("name: " + "[" * 3000, ["not valid YAML"]),
        ("name: tiny\nverbose: 1\n", ["verbose", "1 (int)", "true or false"]),
        ("name: tiny\nevery: 0\n", ["every", "at least 1, or null"]),
        ("name: tiny\nclasses: Archery\n", ["classes", "'Archery' (str)", "a list, each text"]),
        ("name: tiny\nclasses: [1]\n", ["classes", "[1] (list)", "text"]),
        ('name: tiny\nfolder: ""\n', ["folder", "''", "text, at least 1 characters"]),
        ('name: tiny\nfolder: "  "\n', ["folder", "'  '", "text, at least 1 characters"]),
        ("name: yes\n", ["name", "True (bool)", "quote it"]),
        ("name: tiny\nshares: [0.5, 2]\n", ["shares", "at most 1.0"]),
        ("name: tiny\ninner: 3\n", ["inner", "3 (int)", "a group of keys"]),
        ("name: tiny\ninner: {widht: 2}\n", ["inner.widht", "did you mean inner.width?"]),
        ("name: tiny\ninner: {width: 0}\n", ["inner.width", "at least 1"]),
        ("name: tiny\nepochs: 13\n", ["bad luck"]),
        ("name: tiny\nname: large\n", ["line 2", "'name' is given twice"]),
        ("name: tiny\nrate: 1\nepochs: 2\nrate: 1\n", ["line 4, column 1", "'rate' is given twice"]),
        ("name: tiny\ninner: {width: 2, width: 2}\n", ["line 2, column 19", "'width' is given twice"]),
        ("? [name]\n: tiny\n", ["line 1, column 3", "found unhashable key"]),
        ("", ["empty"]),
        ("# only a comment\n", ["empty"]),
        ("- a\n- b\n", ["list", "key: value"]),
        ("name: [tiny\n", ["line", "not valid YAML"]),
        ("name: tiny\n\tepochs: 3\n", ["line 2", "not valid YAML"]),
        (b"\xff\xfe\x00", ["UTF-8"]),
        ("name: !!python/object/apply:os.system [ls]\n", ["not valid YAML"]),
    ],
)
def test_every_problem_names_key_value_and_what_is_allowed(tmp_path, text, words):
    with pytest.raises(ValueError) as caught:
        load(tmp_path, text)
    for word in [*words, "case.yaml"]:
        assert word in str(caught.value)


def test_all_problems_come_in_one_error(tmp_path):
    with pytest.raises(ValueError, match=r"has 4 problem\(s\)") as caught:
        load(tmp_path, "rate: -1\nepoch: 3\nverbose: 0\n")
    for word in ("name: missing", "rate: received -1", "did you mean epochs?", "verbose: received 0"):
        assert word in str(caught.value)


@dataclass(frozen=True)
class Lists:
    groups: tuple[Inner, ...]
    path: Path = Path("here")


def test_a_list_of_groups_and_a_path(tmp_path):
    path = tmp_path / "case.yaml"
    path.write_text("groups: [{width: 2}, {}]\npath: a/b\n")
    assert config.load(path, Lists) == Lists((Inner(2), Inner(3)), Path("a/b"))
    path.write_text("groups: [{width: 2}, {width: 0}, 7]\npath: 3\n")
    with pytest.raises(
        ValueError, match=r"(?s)groups\[1\].width: received 0.*groups\[2\]: received 7.*keys, width"
    ) as caught:
        config.load(path, Lists)
    assert "path: received 3 (int); allowed: a path" in str(caught.value)


def test_no_file_and_folder(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        config.load(tmp_path / "none.yaml", Schema)
    with pytest.raises(ValueError, match="is a folder"):
        config.load(tmp_path, Schema)


def test_table_shows_every_key(tmp_path):
    shown = config.table(load(tmp_path, "name: tiny\nclasses: [a, b]\n"))
    assert shown.loc["classes", "value"] == "a, b" and shown.loc["inner.width", "value"] == "3"
    assert shown.loc["rate", "meaning"] == "learning rate"


def test_find_prefers_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("COURSE_CONFIG", raising=False)
    assert config.find("temporal_coherence").name == "mini.yaml"
    assert config.find("temporal_coherence", "t4").name == "t4.yaml"
    assert config.find("temporal_coherence", tmp_path / "own.yaml") == tmp_path / "own.yaml"
    monkeypatch.setenv("COURSE_CONFIG", "full")
    assert config.find("temporal_coherence", "t4").name == "full.yaml"
