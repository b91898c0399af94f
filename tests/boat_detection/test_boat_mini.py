"""The mini data set of harbours: genuine files, boxes on the pixels, the same bytes again; no rule of thumb finds its boats."""

import base64
import csv
import hashlib
import json
import re
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest

from helpers import runtime, video
from helpers.boat_detection.mini import dataset, harbour, lookalikes, scenes

IMAGES = 480
GENUINE = runtime.repo_root().parent / "shared" / "data" / "boats" / "open_images"
FLAGS = ["IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside"]
CLICKS = [f"XClick{k}{axis}" for axis in "XY" for k in (1, 2, 3, 4)]
BOX_HEADER = ["ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax", *FLAGS, *CLICKS]
IMAGE_HEADER = [
    "ImageID",
    "Subset",
    "OriginalURL",
    "OriginalLandingURL",
    "License",
    "AuthorProfileURL",
    "Author",
    "Title",
]
IMAGE_HEADER += ["OriginalSize", "OriginalMD5", "Thumbnail300KURL", "Rotation"]
BOATS = {"/m/019jd": "Boat", "/m/0ph39": "Canoe", "/m/02068x": "Gondola", "/m/01btn": "Barge"}
OTHERS = {
    "/m/01xs3r": "Jet ski",
    "/m/019w40": "Surfboard",
    "/m/084zz": "Whale",
    "/m/0dftk": "Swan",
    "/m/03jm5": "House",
}
OTHERS |= {"/m/04h7h": "Lighthouse", "/m/01j61q": "Tent", "/m/01knjb": "Billboard", "/m/074d1": "Submarine"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("harbours")
    dataset.make_dataset(path, images=IMAGES, jobs=1)
    assert len(list((path / "images" / "train").iterdir())) == IMAGES
    return path


@pytest.fixture(scope="module")
def boxes(folder):
    return pd.read_csv(folder / "train-annotations-bbox.csv", dtype={"ImageID": str})


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def picture(folder, image):
    return cv2.imread(
        str(folder / "images" / "train" / f"{image}.jpg"), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    )


def digests(folder):
    files = (path for path in folder.rglob("*.*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_box_rows_have_the_genuine_form(folder):
    header, *rows = rows_of(folder / "train-annotations-bbox.csv")
    names = dict(rows_of(folder / "class-descriptions-boxable.csv"))
    assert header == BOX_HEADER and [row[0] for row in rows] == sorted(row[0] for row in rows)
    for row in rows:
        row = dict(zip(header, row, strict=True))
        assert re.fullmatch("[0-9a-f]{16}", row["ImageID"]) and row["Confidence"] == "1" and row["LabelName"] in names
        assert all(re.fullmatch(r"[01]\.\d{6}", row[key]) for key in ("XMin", "XMax", "YMin", "YMax"))
        assert {row[flag] for flag in FLAGS} <= {"0", "1", "-1"}
        if row["Source"] == "activemil":
            assert {row[key] for key in CLICKS} == {"-1.000000"} and {row[flag] for flag in FLAGS} == {"-1"}
        else:
            assert row["Source"] == "xclick" and "-1" not in {row[flag] for flag in FLAGS}
    shares = pd.Series([row[1] for row in rows]).value_counts(normalize=True)
    assert 0.03 < shares["activemil"] < 0.2


def test_clicks_lie_on_the_edges_in_the_genuine_order(boxes):
    clicked = boxes[(boxes["Source"] == "xclick") & (boxes["XMax"] > boxes["XMin"])]
    for number, edge in (("1Y", "YMin"), ("2X", "XMin"), ("3Y", "YMax"), ("4X", "XMax")):  # top, left, bottom, right
        assert (clicked[f"XClick{number}"] == clicked[edge]).all()
    for number in (1, 2, 3, 4):
        assert clicked[f"XClick{number}X"].between(clicked["XMin"], clicked["XMax"]).all()
        assert clicked[f"XClick{number}Y"].between(clicked["YMin"], clicked["YMax"]).all()


def test_image_rows_have_the_genuine_form(folder):
    header, *rows = rows_of(folder / "train-images-boxable-with-rotation.csv")
    assert header == IMAGE_HEADER and len(rows) == IMAGES and [row[0] for row in rows] != sorted(row[0] for row in rows)
    table = pd.DataFrame(rows, columns=header)
    assert sorted(table["ImageID"]) == sorted(path.stem for path in (folder / "images" / "train").iterdir())
    assert table["OriginalURL"].is_unique and (table["OriginalURL"] != "").all() and set(table["Subset"]) == {"train"}
    assert all(re.match(r"https://[\w.]+\.example/", url) for url in table["OriginalURL"])  # no real photo's address
    assert 0 < (table["Thumbnail300KURL"] == "").sum() < 0.08 * IMAGES
    assert set(table["Rotation"]) == {"0.0", "90.0", "180.0", "270.0", ""} and (table["Rotation"] == "0.0").mean() > 0.9
    assert table["Title"].str.contains(",").any() and table["Title"].str.contains('"').any()
    assert table["Author"].str.contains(",").any() and not all(name.isascii() for name in table["Author"])
    assert table["AuthorProfileURL"].nunique() > IMAGES / 10
    assert table["AuthorProfileURL"].value_counts().iloc[0] < IMAGES / 10
    assert table.groupby("AuthorProfileURL")["Author"].nunique().max() == 1
    for row in table.itertuples():
        content = (folder / "images" / "train" / f"{row.ImageID}.jpg").read_bytes()
        told, own = base64.b64decode(row.OriginalMD5), hashlib.md5(content).digest()
        assert len(told) == 16 and (told == own) == (row.ImageID not in dataset.BROKEN)
        assert (int(row.OriginalSize) == len(content)) == (row.ImageID not in dataset.BROKEN)


def test_some_ids_are_taken_for_numbers(folder):
    ids = {row[0] for row in rows_of(folder / "train-images-boxable-with-rotation.csv")[1:]}
    alike = [name for name in ids if re.fullmatch(r"\d+(e\d+)?", name)]
    assert any("e" in name for name in alike) and any(name.startswith("00") for name in alike)
    assert any(f"{float(name):.0f}" != name for name in alike if "e" not in name)  # beyond a double's digits


def edges(node, parent=None):
    yield parent, node["LabelName"]
    for child in (*node.get("Subcategory", ()), *node.get("Part", ())):
        yield from edges(child, node["LabelName"])


def test_boats_have_three_subclasses_and_two_siblings(folder):
    tree = json.loads((folder / "bbox_labels_600_hierarchy.json").read_text())
    pairs = list(edges(tree))
    children = {parent: {child for other, child in pairs if other == parent} for parent, _ in pairs}
    assert children["/m/019jd"] == {"/m/01btn", "/m/02068x", "/m/0ph39"}
    assert children["/m/01rzcn"] == {"/m/019jd", "/m/01xs3r", "/m/074d1"} and ("/m/07yv9", "/m/01rzcn") in pairs
    names = dict(rows_of(folder / "class-descriptions-boxable.csv"))
    assert {child for _, child in pairs} - {"/m/0bl9f"} == set(names)  # Entity has no name there, as in the original
    assert names | BOATS | OTHERS == names


@pytest.mark.skipif(not GENUINE.is_dir(), reason="needs the genuine tables")
def test_names_ids_and_nesting_are_open_images_own(folder):
    names, genuine = (dict(rows_of(place / "class-descriptions-boxable.csv")) for place in (folder, GENUINE))
    assert names.items() <= genuine.items()
    assert [mid for mid in genuine if mid in names] == list(names)
    ours, theirs = (json.loads((place / "bbox_labels_600_hierarchy.json").read_text()) for place in (folder, GENUINE))
    assert set(edges(ours)) <= set(edges(theirs))
    assert rows_of(GENUINE / "oidv6-train-annotations-bbox.head.csv")[0] == BOX_HEADER


def test_every_kind_of_row_occurs(boxes):
    counts = boxes["LabelName"].value_counts()
    assert counts["/m/019jd"] > IMAGES and min(counts[mid] for mid in BOATS) > IMAGES / 25
    assert all(counts.get(mid, 0) > 0 for mid in OTHERS) and set(counts.index) == {*BOATS, *OTHERS}
    whole = boxes[boxes["Source"] == "xclick"]
    flags = whole[FLAGS].eq(1).sum()
    assert (flags >= 3).all() and flags["IsOccluded"] < 0.4 * len(whole) and flags["IsTruncated"] < 0.4 * len(whole)
    assert set(whole.loc[whole[FLAGS[2:]].any(axis=1), "LabelName"]) == {"/m/019jd"}
    inside = whole[whole["IsInside"] == 1]
    assert (inside[["XMin", "XMax", "YMin", "YMax"]] == [0, 1, 0, 1]).all(axis=None)
    with_boats = boxes.loc[boxes["LabelName"].isin(BOATS), "ImageID"].nunique()
    assert 0.1 * IMAGES < IMAGES - with_boats < 0.35 * IMAGES  # pictures without a boat


def test_the_broken_files_are_the_announced_ones(folder, boxes):
    bad = {path.stem for path in (folder / "images" / "train").iterdir() if not is_whole(path)}
    assert bad == set(dataset.BROKEN) and len(bad) == 2
    start = {
        kind: (folder / "images" / "train" / f"{image}.jpg").read_bytes()[:9] for image, kind in dataset.BROKEN.items()
    }
    assert start["page"] == b"<!DOCTYPE" and start["cut"][:2] == b"\xff\xd8"
    empty = boxes[(boxes["XMax"] <= boxes["XMin"]) | (boxes["YMax"] <= boxes["YMin"])]
    assert empty["ImageID"].tolist() == [dataset.DEGENERATE]


def is_whole(path):
    content = path.read_bytes()
    return content[:3] == b"\xff\xd8\xff" and content[-2:] == b"\xff\xd9"


def test_pictures_are_small_and_turned_as_the_table_says(folder):
    rows = [
        row for row in rows_of(folder / "train-images-boxable-with-rotation.csv")[1:] if row[0] not in dataset.BROKEN
    ]
    shapes = {row[-1]: set() for row in rows}
    for row in rows:
        shapes[row[-1]].add(picture(folder, row[0]).shape)
    flat, tall = {(128, 192, 3)}, {(192, 128, 3)}
    assert shapes == {"0.0": flat, "": flat, "180.0": flat, "90.0": tall, "270.0": tall}
    size = sum(path.stat().st_size for path in folder.rglob("*.*"))
    assert size < 15e6 * IMAGES / 2000


def test_the_rotation_in_the_table_makes_pictures_upright(folder):
    """Waves are below and the sky above, in nearly every upright picture: by how much neighbouring pixels differ."""
    rows = [
        row for row in rows_of(folder / "train-images-boxable-with-rotation.csv")[1:] if row[0] not in dataset.BROKEN
    ]
    rows, upright = sorted(rows, key=lambda row: row[-1] in ("0.0", ""))[:100], {True: [], False: []}
    for row in rows:
        grey = cv2.cvtColor(np.rot90(picture(folder, row[0]), int(float(row[-1] or 0)) // 90), cv2.COLOR_BGR2GRAY)
        edges = np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean(axis=1)
        upright[row[-1] in ("0.0", "")].append(grey.shape == (128, 192) and edges[:30].mean() < edges[-30:].mean())
    assert len(upright[False]) >= 8 and min(np.mean(values) for values in upright.values()) > 0.8


def test_the_sky_is_blue(folder):
    """In OpenCV's order of colours, in most pictures: red and blue are not swapped."""
    rows = [row for row in rows_of(folder / "train-images-boxable-with-rotation.csv")[1:] if row[-1] == "0.0"][:150]
    skies = [picture(folder, row[0])[:20].mean(axis=(0, 1)) for row in rows if row[0] not in dataset.BROKEN]
    assert np.mean([blue > red for blue, _, red in skies]) > 0.75


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_picture_and_its_boxes_become_upright_again(turns):
    """By the formulas of the Open Images notes: `turns` counter-clockwise quarter turns."""
    scene = plan(3)
    upright, expected = scenes.render(scene)
    stored, turned = scenes.render(scene, -turns)
    assert np.array_equal(np.rot90(stored, turns), upright) and len(expected) == len(turned) > 2
    height, width = stored.shape[:2]
    for box, other in zip(turned, expected, strict=True):
        x1, y1, x2, y2 = box.left / width, box.top / height, box.right / width, box.bottom / height
        back = {1: (y1, 1 - x2, y2, 1 - x1), 2: (1 - x2, 1 - y2, 1 - x1, 1 - y1), 3: (1 - y2, x1, 1 - y1, x2)}[turns]
        assert back == pytest.approx((other.left / 192, other.top / 128, other.right / 192, other.bottom / 128))
        assert (box.occluded, box.truncated) == (other.occluded, other.truncated)


def plan(seed, size=(128, 192)):
    rng = np.random.default_rng(seed)
    return scenes.plan_scene(rng, harbour.draw_place(rng, size), size)


BACK = (255, 0, 255)  # a colour that nothing has


@pytest.fixture
def flat(monkeypatch):
    """Nothing but the things themselves, at noon, on one colour; returns a function from things to picture and boxes."""
    monkeypatch.setattr(harbour, "draw_background", lambda image, place, view: image.__setitem__(..., BACK))
    monkeypatch.setattr(harbour, "add_grain", lambda image, view: image)
    for name in ("_reflect", "_wash"):
        monkeypatch.setattr(scenes, name, lambda *arguments: None)
    scene = plan(0)
    scene = replace(scene, place=replace(scene.place, light=harbour.LIGHTS[0]), view=replace(scene.view, horizon=50))
    return lambda *things: scenes.render(replace(scene, things=things))


def extent(image, least=110):
    """Columns and rows where the picture clearly differs from the background: left, top, right, bottom."""
    rows, columns = np.nonzero(np.abs(image.astype(int) - BACK).sum(axis=2) > least)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def make_part(kind, x=96.0, y=110.0, length=60.0, heading=1.0, *, seed=0, tilt=0.0):
    return scenes.Part(kind, x, y, length, heading, tuple(np.random.default_rng(seed).random(8).tolist()), tilt)


@pytest.mark.parametrize("kind", sorted(lookalikes.KINDS))
def test_boxes_are_tight_around_what_is_drawn(flat, kind):
    for seed, (heading, tilt, length) in enumerate([(1, 0, 60), (-0.7, 0.05, 45), (0.8, -0.05, 30), (-1, 0, 52)]):
        image, (box,) = flat(
            scenes.Thing("Boat", (make_part(kind, length=length, heading=heading, seed=seed, tilt=tilt),))
        )
        edges = (box.left, box.top, box.right, box.bottom)
        assert np.abs(np.subtract(edges, extent(image))).max() <= 1 and not (box.occluded or box.truncated)
        assert (box.right - box.left) * (box.bottom - box.top) > 0.05 * length**2


def test_boats_face_where_their_heading_says(flat):
    (right, _), (left, _) = (flat(scenes.Thing("Boat", (make_part("fishing boat", heading=way),))) for way in (1, -1))
    assert np.abs(right[:, ::-1].astype(int) - left).mean() < 2 < np.abs(right.astype(int) - left).mean()


def test_what_is_hidden_is_not_boxed(flat):
    front, back = make_part("ferry", 145, 114, 70), make_part("motor boat", 96, 108, 60)
    _, (box, other) = flat(scenes.Thing("Boat", (back,)), scenes.Thing("Ferry", (front,)))
    alone = flat(scenes.Thing("Boat", (back,)))[1][0]
    assert box.occluded and not other.occluded and box.right < alone.right and box.left == alone.left
    assert flat(scenes.Thing("Ferry", (front,)))[1][0] == other
    before = scenes.Thing("Ferry", (replace(front, x=96, length=110),))
    assert [box.thing.name for box in flat(scenes.Thing("Boat", (back,)), before)[1]] == ["Ferry"]


@pytest.mark.parametrize(("x", "y", "edge"), [(4, 100, "left"), (190, 100, "right"), (96, 45, "top")])
def test_what_leaves_the_picture_is_truncated(flat, x, y, edge):
    _, (box,) = flat(scenes.Thing("Boat", (make_part("sailing boat", x, y),)))
    assert box.truncated and getattr(box, edge) == {"left": 0, "top": 0, "right": 192}[edge]


def test_a_group_has_one_box_and_a_painted_boat_hides_nothing(flat):
    parts = tuple(make_part("sailing boat", 40 + 12 * k, seed=k, length=30) for k in range(7))
    image, (box,) = flat(scenes.Thing("Boat", parts, group=True))
    assert np.abs(np.subtract((box.left, box.top, box.right, box.bottom), extent(image))).max() <= 1
    board, sign = make_part("billboard"), make_part("boat sign", y=85, length=37)
    things = scenes.Thing("Billboard", (board,)), scenes.Thing("Boat", (sign,), depiction=True)
    outer, inner = flat(*things)[1]
    assert not outer.occluded and outer.left < inner.left < inner.right < outer.right


def test_number_of_jobs_and_other_calls_change_nothing(tmp_path):
    options = {"images": 40, "size": (64, 96)}
    for name, jobs, seed in (("one", 1, 3), ("two", 2, 3), ("other", 1, 4)):
        dataset.make_dataset(tmp_path / name, jobs=jobs, seed=seed, **options)
    first, second, other = (digests(tmp_path / name) for name in ("one", "two", "other"))
    assert first == second and len(first) == 44
    same = {key for key, value in first.items() if other.get(key) == value}
    fixed = {"class-descriptions-boxable.csv", "bbox_labels_600_hierarchy.json"}
    assert same == fixed | {f"images/train/{image}.jpg" for image, kind in dataset.BROKEN.items() if kind == "page"}


def test_no_blob_is_the_boat(folder, boxes):
    """The largest bright, dark or coloured area is a boat in few pictures: a detector has to know what boats look like."""
    boats = boxes[boxes["LabelName"].isin(BOATS) & (boxes["IsInside"] != 1)].groupby("ImageID")
    hits = {"bright": 0, "dark": 0, "colourful": 0}
    for image, rows in list(boats)[:240]:
        if image in dataset.BROKEN:
            continue
        pixels = picture(folder, image)
        height, width = pixels.shape[:2]
        truth = rows[["XMin", "YMin", "XMax", "YMax"]].to_numpy() * (width, height, width, height)
        grey, colour = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), np.ptp(pixels, axis=2)
        for name, values in (("bright", grey), ("dark", 255 - grey), ("colourful", colour)):
            mask = (values >= np.percentile(values, 94)).astype(np.uint8)
            stats = cv2.connectedComponentsWithStats(mask)[2][1:]
            left, top, wide, high = stats[stats[:, 4].argmax(), :4]
            hits[name] += any(iou((left, top, left + wide, top + high), box) > 0.5 for box in truth)
    assert max(hits.values()) < 0.25 * 240, hits


def iou(a, b):
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(0, wide) * max(0, high)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def test_pictures_of_one_author_share_their_place(folder):
    rows = [
        row
        for row in rows_of(folder / "train-images-boxable-with-rotation.csv")[1:]
        if row[-1] == "0.0" and row[0] not in dataset.BROKEN
    ]
    rows, authors = rows[:200], np.array([row[5] for row in rows[:200]])
    sky = np.array([picture(folder, row[0])[:30].mean(axis=(0, 1)) for row in rows])
    far = np.linalg.norm(sky[:, None] - sky[None], axis=2)
    alike = (authors[:, None] == authors[None]) & ~np.eye(len(rows), dtype=bool)
    assert alike.any() and far[alike].mean() < 0.5 * far[~alike].mean()


def test_the_boxes_of_a_clip_go_with_its_boats(tmp_path):
    table = dataset.make_clip(tmp_path / "clip.avi", seconds=2, seed=1)
    frames = list(video.read_frames(tmp_path / "clip.avi"))
    assert (
        len(frames) == 24 and frames[0].shape == (128, 192, 3) and video.header_info(tmp_path / "clip.avi")["fps"] == 12
    )
    assert list(table.columns) == ["image", "label", "thing", "x1", "y1", "x2", "y2"]
    assert (
        table[["x1", "y1", "x2", "y2"]].to_numpy().min() >= 0 and table[["x1", "y1", "x2", "y2"]].to_numpy().max() <= 1
    )
    boats, followed = table[table["label"].isin(BOATS)], 0
    assert set(boats["image"]) == set(range(24)) and boats["thing"].nunique() >= 3
    for _, track in boats.groupby("thing"):
        track = track.set_index("image")[["x1", "y1", "x2", "y2"]] * (192, 128, 192, 128)
        if len(track) < 24 or track["x1"].min() < 2 or track["x2"].max() > 190:
            continue
        left, top, right, bottom = track.loc[8].round().astype(int)
        found = cv2.matchTemplate(frames[11], frames[8][top:bottom, left:right], cv2.TM_CCOEFF_NORMED)
        x, y = cv2.minMaxLoc(found)[3]
        assert abs(x - track.loc[11, "x1"]) <= 2 and abs(y - track.loc[11, "y1"]) <= 2
        followed += abs(track.loc[23, "x1"] - track.loc[0, "x1"]) > 4
    assert followed >= 1


def test_boats_sail_bow_first():
    rng = np.random.default_rng(0)
    first, last = scenes.plan_clip(rng, harbour.draw_place(rng, (128, 192)), (128, 192), [0.0, 2.0])
    pairs = [(one.parts[0], other.parts[0]) for one, other in zip(first.things, last.things, strict=True)]
    moved = [(after.x - before.x) * before.heading for before, after in pairs if before.kind in lookalikes.BOATS]
    assert len(moved) >= 3 and min(moved) > 5
    assert all(
        before == replace(after, tilt=before.tilt) for before, after in pairs if before.kind in lookalikes.ASHORE
    )


def test_a_clip_is_the_same_again(tmp_path):
    first, again, other = (
        dataset.make_clip(tmp_path / f"{k}.avi", seconds=0.5, seed=seed, size=(64, 96))
        for k, seed in enumerate((0, 0, 1))
    )
    assert first.equals(again) and not first.equals(other)
    frames = [np.stack(list(video.read_frames(tmp_path / f"{k}.avi"))) for k in range(3)]
    assert np.array_equal(frames[0], frames[1]) and not np.array_equal(frames[0], frames[2])
