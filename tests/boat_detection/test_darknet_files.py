"""Darknet's text files: what is written is what Darknet reads, and every bad line is named."""

import numpy as np
import pytest

from helpers import runtime
from helpers.boat_detection.formats.darknet import text_files

SHARED = runtime.repo_root().parent / "shared" / "data" / "boats"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")


def write(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# --- labels ---


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", []),
        ("\n  \n", []),
        ("0 0.5 0.25 0.5 0.125\n", [[0, 0.5, 0.25, 0.5, 0.125]]),
        ("7\t0.5  0.25 1 1", [[7, 0.5, 0.25, 1, 1]]),
        ("0 0 1 5e-1 .125\r\n\r\n3 1 0 1e-3 1\r\n", [[0, 0, 1, 0.5, 0.125], [3, 1, 0, 0.001, 1]]),
        ("0.0 0.5 0.5 1.00005 0.5\n", [[0, 0.5, 0.5, 1, 0.5]]),  # rounded by some tool
        (b"\xef\xbb\xbf2 0.5 0.5 0.5 0.5\n", [[2, 0.5, 0.5, 0.5, 0.5]]),  # a byte order mark
    ],
)
def test_labels_are_read(tmp_path, content, expected):
    boxes = text_files.read_labels(write(tmp_path / "a.txt", content))
    assert boxes.dtype == np.float32 and boxes.shape == (len(expected), 5)
    assert boxes == pytest.approx(np.array(expected).reshape(-1, 5))


BAD_LINES = [
    ("0 0.5 0.5 0.5", ["4 numbers", "expected 5"]),
    ("0 0.5 0.5 0.5 0.5 0.9", ["6 numbers"]),
    ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2", ["9 numbers", "class, centre x"]),
    ("boat 0.5 0.5 0.5 0.5", ["not a number", "boat"]),
    ("0,0.5,0.5,0.5,0.5", ["1 numbers"]),
    ("0 0.5 0.5 0.5 0.5x", ["not a number", "0.5x"]),
    (b"0 0.5 0.5 0.5 \xff\xfe", ["not a number"]),
    ("-1 0.5 0.5 0.5 0.5", ["class -1", "0 to 2"]),
    ("-2 0.5 0.5 0.5 0.5", ["class -2"]),
    ("3 0.5 0.5 0.5 0.5", ["class 3", "0 to 2"]),
    ("0.5 0.5 0.5 0.5 0.5", ["class 0.5"]),
    ("nan 0.5 0.5 0.5 0.5", ["class nan"]),
    ("0 nan 0.5 0.5 0.5", ["centre x nan", "0 to 1"]),
    ("0 0.5 inf 0.5 0.5", ["centre y inf"]),
    ("0 -0.01 0.5 0.5 0.5", ["centre x -0.01"]),
    ("0 0.5 1.01 0.5 0.5", ["centre y 1.01", "0 to 1"]),
    ("0 320 180 64 32", ["centre x 320", "not pixels"]),
    ("0 0.5 0.5 0 0.5", ["width 0;", "above 0"]),
    ("0 0.5 0.5 0.5 -0.5", ["height -0.5"]),
    ("0 0.5 0.5 0.5 1.2", ["height 1.2", "at most 1"]),
]


@pytest.mark.parametrize(("line", "words"), BAD_LINES)
def test_a_bad_line_is_named_and_costs_one_box(tmp_path, line, words):
    line = line if isinstance(line, bytes) else line.encode()
    path = write(tmp_path / "a.txt", b"0 0.1 0.2 0.1 0.1\n\n" + line + b"\n2 0.5 0.5 0.5 0.5\n")
    with pytest.raises(ValueError) as error:
        text_files.read_labels(path, classes=3)
    assert all(word in str(error.value) for word in ["a.txt, line 3: ", *words])
    problems = [{"file": "before"}]
    boxes = text_files.read_labels(path, classes=3, problems=problems)
    assert boxes[:, 0].tolist() == [0, 2]
    assert [(row["file"], row.get("line")) for row in problems] == [("before", None), ("a.txt", 3)]
    assert all(word in problems[1]["reason"] for word in words)


def test_all_bad_lines_come_in_one_error(tmp_path):
    path = write(tmp_path / "a.txt", "0 0.5 0.5 0.5 2\n" * 7)
    with pytest.raises(ValueError, match=r"line 1: height 2[^\n]*\n(a.txt, line \d[^\n]*\n){4}and 2 more$"):
        text_files.read_labels(path)


def test_labels_are_written_as_darknet_reads_them(tmp_path):
    boxes = np.array([[0, 0.5, 0.25, 1, 0.1234567], [-2, 0.5, 0.5, 0.1, 0.1], [11, 1 / 3, 0, 0.000001, 1]], np.float32)
    text_files.write_labels(tmp_path / "labels" / "a.txt", boxes)
    assert (tmp_path / "labels" / "a.txt").read_bytes() == (
        b"0 0.500000 0.250000 1.000000 0.123457\n11 0.333333 0.000000 0.000001 1.000000\n"
    )
    assert text_files.read_labels(tmp_path / "labels" / "a.txt") == pytest.approx(boxes[[0, 2]], abs=5e-7)
    text_files.write_labels(tmp_path / "b.txt", np.empty((0, 5)))
    assert (tmp_path / "b.txt").read_bytes() == b""
    rng = np.random.default_rng(0)
    many = np.round(np.concatenate([rng.integers(0, 9, (50, 1)), rng.uniform(0.01, 1, (50, 4))], axis=1), 6)
    text_files.write_labels(tmp_path / "c.txt", many)
    assert (text_files.read_labels(tmp_path / "c.txt") == many.astype(np.float32)).all()


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([0, 0.5, 0.5, 0.5, np.nan], "box 2 has height nan"),
        ([0, 0.5, 0.5, 4e-7, 0.5], "box 2 has width 0"),
        ([0, 1.5, 0.5, 0.5, 0.5], "box 2 has centre x 1.5"),
        ([-1, 0.5, 0.5, 0.5, 0.5], "box 2 has class -1"),
    ],
)
def test_a_box_that_could_not_be_read_is_not_written(tmp_path, box, words):
    path = write(tmp_path / "a.txt", "before")
    with pytest.raises(ValueError, match=f"cannot write a.txt: {words}"):
        text_files.write_labels(path, np.array([[0, 0.5, 0.5, 0.5, 0.5], box]))
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_labels_are_found_where_either_darknet_looks(tmp_path):
    for name in (
        *("flat/a.txt", "set/labels/train/b.txt", "images/old/labels/c.txt", "voc/labels/d.txt"),
        *("both/images/e.txt", "both/labels/e.txt"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for image, label in (
        ("flat/a.jpg", "flat/a.txt"),
        ("set/images/train/b.png", "set/labels/train/b.txt"),
        ("images/old/images/c.JPG", "images/old/labels/c.txt"),
        ("voc/JPEGImages/d.jpg", "voc/labels/d.txt"),
        ("both/images/e.jpg", "both/images/e.txt"),
        ("flat/b.jpg", None),
        ("set/images/b.jpg", None),
    ):
        assert text_files.find_label(tmp_path / image) == (tmp_path / label if label else None)


# --- lists, names, data ---


def test_lists(tmp_path):
    images = ["data/images/a.jpg", "/home/user/my boats/b c.JPEG", "ä.png"]
    text_files.write_list(tmp_path / "train.txt", images)
    assert (tmp_path / "train.txt").read_bytes() == ("\n".join(images) + "\n").encode()
    assert text_files.read_list(tmp_path / "train.txt") == images
    text_files.write_list(tmp_path / "empty.txt", [])
    assert text_files.read_list(tmp_path / "empty.txt") == []
    assert text_files.read_list(write(tmp_path / "windows.txt", "a.jpg\r\n\r\n b.jpg ")) == ["a.jpg", "b.jpg"]
    with pytest.raises(ValueError, match=r"bad.txt, line 3: '0 0.5 0.5 1 1' names no picture; expected .*\.jpg"):
        text_files.read_list(write(tmp_path / "bad.txt", "a.jpg\n\n0 0.5 0.5 1 1\n"))
    with pytest.raises(ValueError, match=r"line 2 would be 'a\\nb\.jpg'"):
        text_files.write_list(tmp_path / "train.txt", ["a.jpg", "a\nb.jpg"])
    assert text_files.read_list(tmp_path / "train.txt") == images


def test_names(tmp_path):
    text_files.write_names(tmp_path / "a.names", ["Boat", "Jet ski"])
    assert (tmp_path / "a.names").read_bytes() == b"Boat\nJet ski\n"
    assert text_files.read_names(tmp_path / "a.names") == ["Boat", "Jet ski"]
    assert text_files.read_names(write(tmp_path / "b.names", "Boat\r\nCanoe\r\n\r\n")) == ["Boat", "Canoe"]
    for content, words in (
        ("Boat\n\nCanoe\n", "line 2: no name"),
        ("Boat\nCanoe\nBoat\n", "line 3: Boat is the name of line 1 too"),
        ("\n", "line 1: no name"),
        ("", "line 1: no name"),
    ):
        with pytest.raises(ValueError, match=f"c.names, {words}"):
            text_files.read_names(write(tmp_path / "c.names", content))
    with pytest.raises(ValueError, match="line 1 would be ''"):
        text_files.write_names(tmp_path / "d.names", [""])


def test_data(tmp_path):
    text_files.write_data(tmp_path / "a.data", classes=1, names="a.names", train="split/train.txt", backup="backup/")
    text = (tmp_path / "a.data").read_text()
    assert text == "classes = 1\ntrain = split/train.txt\nbackup = backup/\nnames = a.names\n"


# --- genuine files ---


@needs_shared
def test_genuine_files_are_read_whole(tmp_path):
    seed = SHARED / "seed_project"
    assert text_files.read_names(seed / "cfg" / "ih_fp.names") == ["boat"]
    lists = {name: text_files.read_list(seed / "metadata" / f"{name}_list.txt") for name in ("tr", "val", "test")}
    assert {name: len(set(rows)) for name, rows in lists.items()} == {"tr": 6248, "val": 781, "test": 781}
    assert len(text_files.read_names(SHARED / "darknet" / "coco.names")) == 80
    assert len(text_files.read_names(SHARED / "harbour" / "obj.names")) == 9
    labels = sorted((SHARED / "harbour").glob("*.txt")) + sorted((seed / "labels").glob("*.txt"))
    assert len(labels) == 105
    for path in labels:
        boxes = text_files.read_labels(path, classes=9)
        assert len(boxes) and boxes == pytest.approx(np.loadtxt(path, ndmin=2))
        text_files.write_labels(tmp_path / path.name, boxes)
        assert text_files.read_labels(tmp_path / path.name) == pytest.approx(boxes, abs=1e-6)
