"""Pictures found, checked and made into batches: pairs of picture and boxes are held against the pixels."""

import functools
import itertools
import os
import struct
import threading

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from helpers import intake, parallel, pictures, runtime

runtime.quiet_start()

from helpers import training
from helpers.boat_detection import batches, data
from helpers.boat_detection.augment import resizing
from helpers.boat_detection.augment.chance import Augmentation
from helpers.boat_detection.batches import Batches, targets
from helpers.boat_detection.formats.darknet import text_files
from helpers.boat_detection.sources import local

SHARED = runtime.repo_root().parent / "shared" / "data" / "boats"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
changes = functools.partial(Augmentation, dialect="alexeyab", jitter=0.3, hue=0.1, saturation=1.5, exposure=1.5)
OFF = {"hue": 0, "saturation": 1, "exposure": 1}
build_batches = functools.partial(Batches, augmentation=changes(jitter=0, flip=False, **OFF), max_batches=10**6)
COUNT = 24


def draw(number, shape=(64, 96)):
    """Grey with one red rectangle at a place that only this number has; its box."""
    height, width = shape
    image = np.full((height, width, 3), 80 + 2 * number, np.uint8)
    x, y = 4 + number % 6 * 12, 4 + number // 6 * 11
    image[y : y + 16, x : x + 24] = (250, 0, 0)
    return image, [0, (x + 12) / width, (y + 8) / height, 24 / width, 16 / height]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 drawn pictures with label files beside them, of two sizes."""
    path = tmp_path_factory.mktemp("boats")
    for number in range(COUNT):
        image, box = draw(number, (64, 96) if number % 3 else (80, 100))
        cv2.imwrite(str(path / f"{number:02d}.png"), image[..., ::-1])
        text_files.write_labels(path / f"{number:02d}.txt", [box])
    return path


@pytest.fixture(scope="module")
def images(folder):
    found = local.find_images(folder)
    return data.with_boxes(found["image"], local.read_boxes(folder, found), [folder / name for name in found["image"]])


def red(image):
    """Corners x1, y1, x2, y2, relative, of what is red."""
    ys, xs = np.nonzero(image[..., 0] - image[..., 2] > 0.35)
    height, width = image.shape[:2]
    return np.array([xs.min() / width, ys.min() / height, (xs.max() + 1) / width, (ys.max() + 1) / height])


def corners(row):
    return np.array([row[0] - row[2] / 2, row[1] - row[3] / 2, row[0] + row[2] / 2, row[1] + row[3] / 2])


# --- reading and checking ---


def jpeg(quality=90):
    image = cv2.resize(np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8), (320, 240))
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def with_segment(content, payload):
    """A JPEG file with an APP1 segment, where cameras put their notes and thumbnails."""
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + content[2:]


@pytest.mark.parametrize("name", ["a.jpg", "b.PNG", "größe.bmp", "grey.png", "alpha.png"])
def test_pictures_are_read_as_rgb(tmp_path, name):
    image = draw(3)[0]
    stored = {"grey.png": image[..., 1], "alpha.png": np.dstack([image[..., ::-1], image[..., 0]])}
    content = cv2.imencode(name[-4:].lower(), stored.get(name, image[..., ::-1]))[1]
    content.tofile(tmp_path / name)
    expected = np.repeat(image[..., 1:2], 3, axis=-1) if name == "grey.png" else image
    found = data.read_image(tmp_path / name)
    assert found.dtype == np.uint8 and np.abs(found.astype(int) - expected).mean() < (3 if name == "a.jpg" else 1e-9)
    assert data.check_image(tmp_path / name) == {"height": 64, "width": 96, "bytes": content.nbytes}


@pytest.mark.parametrize("max_side", [None, 100])
@pytest.mark.parametrize("note", range(1, 9))
def test_a_phones_photo_is_left_upright_without_its_note(tmp_path, note, max_side):
    image = np.full((240, 320, 3), 90, np.uint8)
    image[60:120, 20:100] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = note
    Image.fromarray(image).save(tmp_path / "a.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "a.jpg") as picture:
        upright = np.asarray(ImageOps.exif_transpose(picture)) / 255  # the oracle
    row = {"image": "a", "path": "a.jpg", "rotation": 0}
    for follow_note, expected in ((True, upright), (False, image / 255)):
        options = {"upright": True, "max_side": max_side, "follow_note": follow_note}
        size = data.prepare_picture(row, root=tmp_path, folder=tmp_path / "out", **options)
        left = tmp_path / "out/images/a.jpg"
        found = cv2.imread(str(left), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)[..., ::-1] / 255
        assert found.shape[:2] == (size["height"], size["width"])
        assert np.abs(red(found) - red(expected)).max() < 0.02
        assert not pictures.is_noted_turned(left)
    if note == 1 and max_side is None:
        assert left.read_bytes() == (tmp_path / "a.jpg").read_bytes()


BROKEN = {
    "empty.jpg": (b"", "no picture that can be read (0 bytes)"),
    "page.jpg": (b"<html>403 Forbidden</html>", "no picture"),
    "half.jpg": (jpeg()[:5000], "cut off"),
    "end.jpg": (jpeg()[:-2], "cut off"),
    "header.jpg": (jpeg()[:300], "no picture"),
    "thumbnail.jpg": (with_segment(jpeg(), b"Exif\0\0" + jpeg(5)[:9000])[:-4000], "cut off"),
    "zeros.jpg": (jpeg()[:4000] + bytes(3000) + jpeg()[7000:], "damaged: Corrupt JPEG data"),
    "half.png": (cv2.imencode(".png", draw(0)[0])[1].tobytes()[:200], "no picture"),
    "folder.png": (None, ""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_pictures_are_found_in_silence(tmp_path, capfd, name):
    content, words = BROKEN[name]
    if content is None:
        (tmp_path / name).mkdir()
        with pytest.raises(OSError):
            data.check_image(tmp_path / name)
        return
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as error:
        data.check_image(tmp_path / name)
    assert name in str(error.value) and words in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_harmless_oddities_are_no_damage(tmp_path, capfd):
    whole = jpeg()
    oddities = {
        "more.jpg": whole[:-2] + bytes(7) + whole[-2:],  # the decoder reports 7 extraneous bytes
        "after.jpg": whole + b"written after the end",
        "thumbnail.jpg": with_segment(whole, b"Exif\0\0" + jpeg(5)[:9000]),
    }
    for name, content in oddities.items():
        (tmp_path / name).write_bytes(content)
        assert data.check_image(tmp_path / name)["height"] == 240
    assert capfd.readouterr() == ("", "")


def test_stderr_is_given_back(tmp_path, capfd):
    for name in ("no.jpg", "page.jpg"):
        (tmp_path / "page.jpg").write_bytes(b"<html>")
        with pytest.raises((FileNotFoundError, ValueError)):
            data.check_image(tmp_path / name)
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


def test_pictures_are_checked_in_workers(folder, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(jpeg()[:-100])
    table = parallel.parallel(data.check_image, [folder / "01.png", tmp_path / "bad.jpg"], jobs=2)
    assert table["error"].tolist()[0] == "" and "bad.jpg is cut off" in table["error"].tolist()[1]
    assert table["width"].tolist()[0] == 96


# --- folders and tables ---


def make_album(root, pictures=(), **texts):
    """Files that say they are JPEG, and text files; names of the latter with __ for / and _DOT_ for the dot."""
    for name in pictures:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\xff\xd8\xff")
    for name, text in texts.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return intake.walk(root, {intake.PICTURE})


BOX = "0 0.5 0.5 0.2 0.4\n"


def test_images_are_found_with_their_labels(tmp_path):
    found = make_album(
        tmp_path,
        ["images/train/b.jpg", "images/a.PNG", "images/.hidden/c.jpg", "flat/d.jfif", "flat/e.gif"],
        notes_DOT_txt="hello",
        labels__train__b_DOT_txt="", labels__a_DOT_txt=BOX, flat__d_DOT_txt=BOX,
    )  # fmt: skip
    (tmp_path / "flat/e.gif").write_bytes(b"GIF89a")
    found = intake.walk(tmp_path, {intake.PICTURE})
    expected = [
        ("flat/d.jfif", "flat/d.txt"),
        ("images/a.PNG", "labels/a.txt"),
        ("images/train/b.jpg", "labels/train/b.txt"),
    ]
    assert list(local.find_images(found).itertuples(index=False, name=None)) == expected
    reasons = dict(found.left_out.itertuples(index=False))
    assert list(reasons) == ["flat/e.gif", "images/.hidden/", "notes.txt"]
    assert "a video; used here: picture" in reasons["flat/e.gif"]
    (tmp_path / "labels" / "a.txt").unlink()
    kept = local.find_images(tmp_path)
    assert kept["label"].tolist() == ["flat/d.txt", "", "labels/train/b.txt"]
    with pytest.raises(FileNotFoundError, match="no folder"):
        local.find_images(tmp_path / "none")
    with pytest.raises(
        FileNotFoundError, match=r"no picture in labels; 1 files were left out, such as train/b.txt: an empty file"
    ):
        local.find_images(tmp_path / "labels")


def test_an_album_with_every_oddity(tmp_path):
    found = make_album(
        tmp_path,
        ["train/images/a.jpg", "valid/images/a.jpg", "test/images/c.jpg", "test/images/c.png", "train/images/alone.jpg"],
        train__labels__a_DOT_txt=BOX.encode("utf-16"), valid__labels__a_DOT_txt=BOX + "0 1 2\n", test__labels__c_DOT_txt="",
        data_DOT_yaml="names: {0: Kähne}\n", classes_DOT_txt="\ufeffKähne\r\n",
    )  # fmt: skip
    pictures, boxes, classes = local.from_folder(found, merged=None)
    assert pictures[["image", "subset"]].to_numpy().tolist() == [
        ["c", "test"],
        ["train-images-a", "train"],
        ["valid-images-a", "validation"],
    ]
    assert boxes["ImageID"].tolist() == ["train-images-a", "valid-images-a"] and classes == {"Kähne": "Kähne"}
    assert found.left_out["file"].tolist() == ["a.txt, line 2", "test/images/c.png", "train/images/alone.jpg"]


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (
            {"a_DOT_txt": "3 0.5 0.5 0.2 0.4\n", "x_DOT_names": "boat\nbuoy\n"},
            ["a.txt, line 1", "class 3", "boat, buoy"],
        ),
        ({"a_DOT_txt": "", "b_DOT_txt": ""}, ["not one box in the 2 label files"]),
        ({"a_DOT_txt": BOX, "x_DOT_names": "boat\n", "y_DOT_names": "ship\n"}, ["x.names, y.names", "differently"]),
        ({"a_DOT_txt": BOX, "classes_DOT_txt": "boat\n", "sub__y_DOT_names": "ship\n"}, ["classes.txt, sub/y.names"]),
        ({"a_DOT_txt": b"\x89HDF\r\n\x1a\n"}, ["such as a.jpg: its label file a.txt is an HDF5 file"]),
        ({}, ["no picture in", "has a label file", "such as a.jpg: no label file"]),
    ],
)
def test_albums_that_are_refused(tmp_path, texts, words):
    found = make_album(tmp_path, ["a.jpg", "b.jpg"], **texts)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        local.from_folder(found, merged="Boat")
    assert all(word in str(caught.value) for word in words), caught.value


def test_tables_and_pairs(tmp_path):
    make_album(tmp_path, ["a.jpg", "b.jpg"])
    (tmp_path / "a.txt").write_text("1 0.5 0.5 0.2 0.4\n0 0.9 0.1 0.4 0.2\n0 0.5 0.5 0 1\n")
    (tmp_path / "b.txt").write_text("")
    found, problems = local.find_images(tmp_path), []
    table = local.read_boxes(tmp_path, found, classes=2, problems=problems)
    assert table.columns.tolist() == ["image", "class", "x1", "y1", "x2", "y2", "ignore"]
    assert table["image"].tolist() == ["a.jpg", "a.jpg"] and table["class"].tolist() == [1, 0]
    assert table[["x1", "y1", "x2", "y2"]].to_numpy() == pytest.approx(
        np.array([[0.4, 0.3, 0.6, 0.7], [0.7, 0, 1, 0.2]]), abs=1e-6
    )  # what sticks out is cut
    assert problems[0]["file"] == "a.txt" and problems[0]["line"] == 3
    pairs = data.with_boxes(
        ["b.jpg", "a.jpg"], table.assign(ignore=[True, False]), [tmp_path / "b.jpg", tmp_path / "a.jpg"]
    )
    assert [path for path, _ in pairs] == [tmp_path / "b.jpg", tmp_path / "a.jpg"]
    assert pairs[0][1].shape == (0, 5)
    assert pairs[1][1] == pytest.approx(np.array([[-2, 0.5, 0.5, 0.2, 0.4], [0, 0.85, 0.1, 0.3, 0.2]]), abs=1e-6)
    none = data.with_boxes(["b.jpg"], table.iloc[:0].drop(columns="ignore"))
    assert none[0][1].shape == (0, 5) and none[0][1].dtype == np.float32


# --- batches ---


def test_targets_put_areas_to_ignore_last_and_lose_them_first():
    first = np.array(
        [[-2, 0.1, 0.1, 0.1, 0.1], [3, 0.2, 0.3, 0.4, 0.5], [-2, 0.9, 0.9, 0.1, 0.1], [1, 0.5, 0.5, 0.6, 0.7]]
    )
    found = targets([first, np.empty((0, 5))], 3)
    assert found.dtype == np.float32 and found.shape == (2, 3, 5)
    assert found[0] == pytest.approx(
        np.array([[0.2, 0.3, 0.4, 0.5, 3], [0.5, 0.5, 0.6, 0.7, 1], [0.1, 0.1, 0.1, 0.1, -2]])
    )
    assert (found[1] == -1).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"augmentation": changes(**OFF)},
        {"augmentation": changes(dialect="pjreddie", **OFF)},
        {"augmentation": changes(letterbox=True, **OFF), "size": (64, 128)},
        {"augmentation": changes(**OFF), "random": 1.4, "workers": 3},
    ],
    ids=["as it is", "alexeyab", "pjreddie", "letter_box", "multi-scale"],
)
def test_every_picture_comes_with_its_own_boxes(images, options):
    made = build_batches(images, **{"size": 96, "batch_size": 8, "seed": 3, **options})
    assert made.steps_per_epoch == 3
    checked = 0
    for step in range(6):
        pictures, y_true = made.batch(step)
        assert pictures.shape == (8, *made.size(step), 3) and pictures.dtype == np.float32
        assert y_true.shape == (8, made.max_boxes, 5) and y_true.dtype == np.float32
        assert pictures.min() >= 0 and pictures.max() <= 1
        for picture, rows in zip(pictures, y_true, strict=True):
            if rows[0, 4] == 0 and min(rows[0, 2:4]) > 0.1:
                assert red(picture) == pytest.approx(corners(rows[0]), abs=2.1 / 64)
                checked += 1
            assert (rows[1:] == -1).all()
    assert checked > 35


def test_a_mosaic_brings_the_boxes_of_four_pictures(images):
    shares = []
    for mosaic in (0.0, 0.5, 1.0):
        made = build_batches(images, size=128, batch_size=24, augmentation=changes(jitter=0.1), mosaic=mosaic)
        counts = np.concatenate([(made.batch(step)[1][..., 4] == 0).sum(axis=1) for step in range(8)])
        shares.append((counts > 1).mean())
    assert shares[0] == 0 and shares[2] > 0.5 and counts.max() == 4
    assert shares[1] == pytest.approx(shares[2] / 2, abs=0.1)
    named = [(path, np.concatenate([[[number]], boxes[:, 1:]], axis=1)) for number, (path, boxes) in enumerate(images)]
    made = build_batches(named, size=128, batch_size=24, augmentation=changes(**OFF), mosaic=1.0)
    several = 0
    for picture, rows in zip(*made.batch(0), strict=True):
        classes = rows[rows[:, 4] >= 0, 4]
        several += len(set(classes)) > 1
        for x, y, width, height, number in rows[rows[:, 4] >= 0]:
            if min(width, height) > 0.1:  # red, and the background of the picture that the box belongs to is there too
                assert picture[int(y * 128), int(x * 128)] == pytest.approx(np.array([250, 0, 0]) / 255, abs=0.02)
                assert (np.abs(picture - (80 + 2 * number) / 255) < 1e-6).all(axis=-1).any()
    assert several > 10


def test_the_parts_of_an_iteration_have_one_size(images):
    options = {"size": 64, "random": 1.4, "seed": 7}
    plain = build_batches(images, batch_size=12, **options)
    parts = build_batches(images, batch_size=3, subdivisions=4, **options)
    sizes = [plain.size(iteration) for iteration in range(60)]
    assert len(set(sizes)) > 1
    assert [parts.size(step) for step in range(240)] == [size for size in sizes for _ in range(4)]
    assert parts.batch(45)[0].shape[1:3] == sizes[11]


def test_each_epoch_is_another_permutation(images):
    made = build_batches(images, size=32, batch_size=7)
    assert made.steps_per_epoch == 3
    epochs = [np.concatenate([made.rows(3 * epoch + place) for place in range(3)]) for epoch in range(4)]
    assert all(len(set(epoch)) == 21 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert len(set(np.concatenate(epochs))) == COUNT  # what one epoch left out comes in another


VARIANTS = {
    "again": {},
    "threads": {"workers": 4},
    "no cache": {"room": 0},
    "half a cache": {"room": COUNT * 64 * 96 * 3 // 2},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_depends_on_seed_and_step_alone(images, monkeypatch, variant):
    options = {"size": 64, "batch_size": 8, "augmentation": changes(), "mosaic": 0.4, "random": 1.4}
    first = build_batches(images, seed=5, **options)
    expected = {step: first.batch(step) for step in range(12)}
    more = dict(VARIANTS[variant])
    monkeypatch.setattr(batches, "CACHE_BYTES", more.pop("room", batches.CACHE_BYTES))
    other = build_batches(images, seed=5, **options, **more)
    for step in (11, 3, 0, 7, 3):
        for ours, theirs in zip(other.batch(step), expected[step], strict=True):
            assert np.array_equal(ours, theirs)
    fed = training.prefetch(other.batch, 4, workers=3)
    for step, (x, y_true) in zip(range(4, 9), fed, strict=False):
        assert np.array_equal(x, expected[step][0]) and np.array_equal(y_true, expected[step][1])
    fed.close()
    changed = build_batches(images, seed=6, **options)
    assert not np.array_equal(changed.batch(1)[1], expected[1][1])
    alone = [build_batches(images[:1], size=64, batch_size=1, seed=seed, augmentation=changes()) for seed in (5, 6)]
    assert not np.array_equal(alone[0].batch(0)[0], alone[1].batch(0)[0])
    flat = [expected[step][1][:, 0].tobytes() for step in range(12)]
    assert len(set(flat)) == 12


def test_the_cache_holds_what_fits(images, monkeypatch):
    reads = []
    monkeypatch.setattr(data, "read_image", lambda path, read=data.read_image: reads.append(path) or read(path))
    size = 64 * 96 * 3
    with monkeypatch.context() as small:
        small.setattr(batches, "CACHE_BYTES", 10 * size)
        some = build_batches(images, size=32, batch_size=24)
    some.batch(0)
    assert len(reads) == COUNT
    kept = sum(image.nbytes for image in some._cache.values())
    assert 9 * size <= kept <= 10 * size
    reads.clear()
    some.batch(1)
    assert len(reads) == COUNT - len(some._cache)
    whole = build_batches(images, size=32, batch_size=24)
    whole.batch(0)
    reads.clear()
    whole.batch(1)
    assert reads == []


def test_boxes_are_shuffled_before_they_are_cut(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "a.png"), draw(0)[0])
    boxes = np.array([[number, 0.5, 0.5, 0.5, 0.5] for number in range(6)])
    monkeypatch.setitem(batches.MAX_BOXES, "alexeyab", 4)
    some = build_batches([(tmp_path / "a.png", boxes)], size=32, batch_size=1)
    seen = [tuple(some.batch(step)[1][0, :, 4]) for step in range(20)]
    assert all(len(set(classes)) == 4 for classes in seen) and len(set(seen)) > 10
    assert set(itertools.chain(*seen)) == set(range(6))


@pytest.mark.parametrize("workers", [1, 3])
def test_a_picture_that_breaks_in_training_is_named(images, tmp_path, workers):
    (tmp_path / "broken.jpg").write_bytes(jpeg()[:200])
    broken = [*images[:3], (tmp_path / "broken.jpg", np.empty((0, 5)))]
    made = build_batches(broken, size=32, batch_size=4, workers=workers)
    with pytest.raises(ValueError, match=r"broken\.jpg is no picture"):
        made.batch(0)
    with pytest.raises(RuntimeError, match=r"step 0 failed: ValueError: broken.jpg is no picture"):
        next(training.prefetch(made.batch))
    missing = build_batches([(tmp_path / "gone.jpg", np.empty((0, 5)))], size=32, batch_size=1)
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg"):
        missing.batch(0)


@pytest.mark.parametrize(
    ("boxes", "options", "expected"),
    [
        (0, {}, 1),
        (7, {}, 7),
        (7, {"mosaic": 0.5, "augmentation": changes()}, 28),
        (250, {}, 200),
        (250, {"augmentation": changes(dialect="pjreddie")}, 90),
    ],
)
def test_rows_of_the_targets(images, boxes, options, expected):
    """As many as a picture may show, and never more than Darknet has."""
    crowded = [*images[:1], (images[1][0], np.tile([0, 0.5, 0.5, 0.1, 0.1], (boxes, 1)))]
    empty = [(path, np.empty((0, 5))) for path, _ in images[:1]]
    assert build_batches(crowded if boxes else empty, size=32, batch_size=1, **options).max_boxes == expected


def test_threads_end_with_their_batches(images):
    before = set(threading.enumerate())
    made = build_batches(images, size=32, batch_size=4, workers=3)
    made.batch(0)
    started = set(threading.enumerate()) - before
    assert 0 < len(started) <= 3
    del made
    for thread in started:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in started)


# --- genuine pictures ---


@needs_shared
def test_genuine_photos(capfd):
    found = local.find_images(SHARED / "harbour")
    assert len(found) == 100
    sizes = pd.DataFrame([data.check_image(SHARED / "harbour" / name) for name in found["image"][:30]])
    assert sizes[["height", "width"]].max(axis=1).eq(640).all()
    table = local.read_boxes(SHARED / "harbour", found, classes=9)
    assert table["image"].nunique() == 100 and table[["x1", "y1", "x2", "y2"]].stack().between(0, 1).all()
    pairs = data.with_boxes(found["image"][:30], table, [SHARED / "harbour" / name for name in found["image"][:30]])
    made = build_batches(pairs, size=128, batch_size=15, augmentation=changes(), mosaic=0.5, workers=2)
    pictures, y_true = made.batch(0)
    assert np.isfinite(pictures).all() and (y_true[..., 4] >= 0).sum() > 15
    valid = y_true[y_true[..., 4] >= 0]
    assert (valid[:, :2] - valid[:, 2:4] / 2 > -1e-6).all() and (valid[:, :2] + valid[:, 2:4] / 2 < 1 + 1e-6).all()
    seed = SHARED / "seed_project"
    names = local.find_images(seed)
    assert len(names) == 5 and (names["label"] != "").sum() == 2
    for name in names["image"]:
        image, placement = resizing.letterbox(data.read_image(seed / name), 416)
        assert image.shape == (416, 416, 3) and placement == resizing.Placement()
    assert capfd.readouterr().err == ""
