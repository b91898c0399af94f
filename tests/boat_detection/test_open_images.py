"""Open Images' files: filters against the csv module and pandas, broken connections, rotation against drawn pixels."""

import base64
import contextlib
import csv
import gzip
import hashlib
import io
import json

import numpy as np
import pandas as pd
import pytest
from download_server import FAST, serve

from helpers import runtime
from helpers.boat_detection.sources import cleaning, open_images
from helpers.fetch import manifests, streams

REAL = runtime.repo_root().parent / "shared" / "data" / "boats" / "open_images"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the genuine files are not here")

CLICKS = [f"XClick{number}{axis}" for axis in "XY" for number in (1, 2, 3, 4)]
HEADER = [
    "ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax",
    "IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside",
]  # fmt: skip
BOAT, CANOE, PERSON = "/m/019jd", "/m/0ph39", "/m/01g317"
LABELS = [BOAT, CANOE, PERSON, "/m/019jdx", "/m/07yv9"]  # one begins like the boat's
FLAGS = HEADER[8:]


def box_rows(count, *, clicks=True, seed=0):
    """Rows as in the genuine files, sorted by image; ids that look like numbers; flags that are unknown."""
    rng = np.random.default_rng(seed)
    ids = ["0000e123456789ab", "1234567890123456", "00000000000001e5", *(f"{n:016x}" for n in range(2**60, 2**60 + 40))]
    rows = []
    for name in sorted(rng.choice(ids, count)):
        x1, x2 = np.sort(rng.choice(10**6, 2, replace=False)) / 1e6
        y1, y2 = np.sort(rng.choice(10**6, 2, replace=False)) / 1e6
        flags = rng.choice([-1, 0, 1], 5, p=[0.1, 0.6, 0.3])
        sides = [f"{side:.6f}" for side in (x1, x2, y1, y2)]
        points = [f"{value:.6f}" for value in rng.random(8)] if clicks else []
        rows.append([name, "xclick", str(rng.choice(LABELS)), "1", *sides, *map(str, flags), *points])
    return rows


def to_csv(rows, *, header=None, end="\n"):
    header = header or (HEADER + CLICKS if len(rows[0]) > len(HEADER) else HEADER)
    return end.join(",".join(row) for row in [header, *rows, []]).encode()


ROWS = box_rows(2000)
BODY = to_csv(ROWS)


def expected(body, mids):
    """The oracle: every row through the csv module, then by its label."""
    rows = [row for row in csv.DictReader(io.StringIO(body.decode())) if row["LabelName"] in mids]
    return [[row[name] for name in HEADER] for row in rows]


def cells(boxes):
    """A filtered table as the texts of the file."""
    texts = boxes.astype(dict.fromkeys(("ImageID", "Source", "LabelName", *FLAGS), str))
    texts["Confidence"] = texts["Confidence"].map("{:.0f}".format)
    for side in ("XMin", "XMax", "YMin", "YMax"):
        texts[side] = texts[side].map("{:.6f}".format)
    return texts.to_numpy().tolist()


def check(boxes, body, mids):
    """Row by row, as pytest takes minutes to show how two long lists differ."""
    found, right = cells(boxes), expected(body, mids)
    assert len(found) == len(right)
    assert next((pair for pair in zip(found, right, strict=True) if pair[0] != pair[1]), None) is None


# --- classes ---


@pytest.mark.parametrize("header", ["", "LabelName,DisplayName\n", "id,name\n", "\ufeffid,name\n"])
def test_class_names_with_and_without_a_header(tmp_path, header):
    (tmp_path / "classes.csv").write_text(header + '/m/019jd,Boat\r\n/m/0x,"Bat (Animal), small"\n', encoding="utf-8")
    names = open_images.read_class_names(tmp_path / "classes.csv")
    assert names == {"/m/019jd": "Boat", "/m/0x": "Bat (Animal), small"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/m/019jd,Boat\n/m/019jd,Ship\n", "classes.csv, line 2"),
        ("/m/019jd,Boat\nBoat\n", "line 2"),
        ("id,name\nid,name\n", "line 2"),
        ("/m/019jd\n", "line 1"),
        ("/m/019jd,Boat\n\n", "line 2"),
        ('/m/019jd,"Boat\n', "classes.csv, line 1"),
        (b"/m/019jd,Boat\n/m/1,\x8c\n", "classes.csv, line 2"),
        (b"\x1f\x8b\x08", "classes.csv is a gzip file"),
    ],
)
def test_what_is_no_list_of_classes_is_refused(tmp_path, text, words):
    (tmp_path / "classes.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=words):
        open_images.read_class_names(tmp_path / "classes.csv")


@pytest.mark.parametrize(
    "text",
    [
        '{"LabelName": 1',
        '{"LabelName": "/m/0", "Part": [{}]}',
        "[" * 3000,
        "9" * 5000,
        '{"LabelName": "/m/0", "Part": 3}',
        "[]",
    ],
)
def test_a_damaged_tree_is_named(tmp_path, text):
    (tmp_path / "tree.json").write_text(text)
    with pytest.raises(ValueError, match=r"^tree\.json: damaged, or no tree of classes"):
        open_images.subclasses(tmp_path / "tree.json", "/m/0")


def test_a_class_is_found_in_any_case_and_near_names_are_told():
    names = {"/m/019jd": "Boat", "/m/0ph39": "Canoe", "/m/01xs3r": "Jet ski"}
    assert [open_images.find_class(names, text) for text in ("Boat", "BOAT", " jet  Ski ")] == [BOAT, BOAT, "/m/01xs3r"]
    with pytest.raises(ValueError, match=r"'boats'; near: Boat \(of 3"):
        open_images.find_class(names, "boats")
    with pytest.raises(ValueError, match="near: none"):
        open_images.find_class(names, "xyzxyz")


def test_kinds_are_followed_to_any_depth_and_parts_are_not(tmp_path):
    def node(name, **below):
        return {"LabelName": f"/m/{name}", **below}

    boat = node("boat", Subcategory=[node("canoe", Subcategory=[node("kayak")]), node("barge"), node("kayak")])
    boat["Part"] = [node("wheel", Subcategory=[node("gear")])]
    tree = node("all", Subcategory=[node("car"), node("craft", Subcategory=[boat])])
    (tmp_path / "tree.json").write_text(json.dumps(tree))
    for name, kinds in {"boat": "boat canoe kayak barge", "barge": "barge", "wheel": "wheel gear"}.items():
        found = open_images.subclasses(tmp_path / "tree.json", f"/m/{name}")
        assert found == [f"/m/{kind}" for kind in kinds.split()]
    with pytest.raises(ValueError, match=r"tree.json has no class 'Boat'"):
        open_images.subclasses(tmp_path / "tree.json", "Boat")


# --- boxes ---


@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC, csv.QUOTE_MINIMAL])
@pytest.mark.parametrize("name", ["holiday 2024.7", "å-12", "00e1"])
def test_tables_of_own_pictures_as_other_programs_write_them(quoting, name):
    numbers = [1, 0.1, 0.5, 0.2, 0.75, 0, 1, 0, -1, 0]
    content = io.StringIO()
    csv.writer(content, quoting=quoting).writerows(
        [HEADER, [name, "my tool", BOAT, *numbers], ["x", "", PERSON, *numbers]]
    )
    boxes = open_images.filter_boxes(io.BytesIO(content.getvalue().encode()), BOAT)
    assert boxes.to_numpy().tolist() == [[name, "my tool", BOAT, *map(pytest.approx, numbers)]]
    assert boxes.attrs["refused"] == {}


@pytest.mark.parametrize("clicks", [True, False])
@pytest.mark.parametrize("mids", [[BOAT], [BOAT, CANOE], ["/m/07yv9", PERSON, "/m/absent"], ["/m/absent"]])
@pytest.mark.parametrize("block", [1 << 20, 1000, 1])
def test_boxes_are_those_of_the_csv_module(monkeypatch, clicks, mids, block):
    monkeypatch.setattr(streams, "BLOCK", block)
    body = to_csv(box_rows(300, clicks=clicks))
    boxes = open_images.filter_boxes(io.BytesIO(body), mids)
    check(boxes, body, mids)
    check(open_images.filter_boxes(io.BytesIO(body.replace(b"\n", b"\r\n")), mids), body, mids)
    assert list(boxes.columns) == HEADER
    assert [str(boxes[name].dtype) for name in ("XMin", "Confidence", "IsGroupOf")] == ["float32", "float32", "int8"]
    assert boxes.attrs == {"source": "the open file", "rows": 300, "refused": {}, "problems": []}


def test_one_class_may_be_given_as_text_and_pandas_agrees():
    boxes = open_images.filter_boxes(io.BytesIO(BODY), BOAT)
    whole = pd.read_csv(io.BytesIO(BODY), dtype={"ImageID": str})
    same = whole[whole["LabelName"] == BOAT]
    np.testing.assert_array_equal(boxes["ImageID"].astype(object), same["ImageID"].astype(object))
    np.testing.assert_array_equal(boxes["YMax"], same["YMax"].astype("float32"))
    assert "0000e123456789ab" in set(boxes["ImageID"])


def forms(tmp_path):
    (tmp_path / "boxes.csv").write_bytes(BODY)
    with gzip.open(tmp_path / "boxes.csv.gz", "wb") as file:
        file.write(BODY)
    half = len(BODY) // 2
    (tmp_path / "two.gz").write_bytes(gzip.compress(BODY[:half]) + gzip.compress(BODY[half:]))
    (tmp_path / "crlf.csv").write_bytes(BODY.replace(b"\n", b"\r\n"))
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbf" + BODY)
    (tmp_path / "no_end.csv").write_bytes(BODY.rstrip())
    return sorted(tmp_path.iterdir())


def test_a_file_may_come_in_many_forms(tmp_path):
    for path in forms(tmp_path):
        for source in (path, str(path)):
            boxes = open_images.filter_boxes(source, [BOAT])
            check(boxes, BODY, [BOAT])
            assert (boxes.attrs["source"], boxes.attrs["rows"]) == (path.name, len(ROWS))
    with (tmp_path / "boxes.csv.gz").open("rb") as file, gzip.open(tmp_path / "boxes.csv.gz") as unpacked:
        for opened in (file, unpacked):
            check(open_images.filter_boxes(opened, [BOAT]), BODY, [BOAT])
            assert not opened.closed


def changed(row, **changes):
    header = HEADER + CLICKS
    return [str(changes.get(name, cell)) for name, cell in zip(header, row, strict=True)]


GOOD = next(row for row in ROWS if row[2] == BOAT)
BAD = {
    "malformed": [
        changed(GOOD, XMin="left"), changed(GOOD, XMax=""), changed(GOOD, YMax="nan"), changed(GOOD, IsInside="2"),
        changed(GOOD, Confidence=".."), changed(GOOD, Confidence="1.2.3"),
        ["a\rb", *GOOD[1:]], ["a\0b", *GOOD[1:]],
        changed(GOOD, IsGroupOf=""), GOOD[:-1], [*GOOD, "0"], GOOD[:5], ["", *GOOD[1:]], ["", *GOOD[1:]],
    ],
    "outside 0..1": [changed(GOOD, XMax="1.000001"), changed(GOOD, YMin="-0.1")],
    "no area": [
        changed(GOOD, XMin="0.5", XMax="0.5"), changed(GOOD, YMin="0.7", YMax="0.2"), changed(GOOD, XMin="0.9", XMax="0.1"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("reason", BAD)
def test_rows_that_cannot_be_used_are_named_and_the_rest_is_read(monkeypatch, reason):
    monkeypatch.setattr(streams, "BLOCK", 500)
    for bad in BAD[reason]:
        body = to_csv([GOOD, ROWS[0], bad, GOOD])
        boxes = open_images.filter_boxes(io.BytesIO(body), [BOAT])
        assert len(boxes) == 2 + (ROWS[0][2] == BOAT), bad
        assert (boxes.attrs["refused"], boxes.attrs["rows"]) == ({reason: 1}, 4)
        assert boxes.attrs["problems"] == [{"line": 4, "reason": reason, "text": ",".join(bad)[:200]}]


def test_an_id_in_another_encoding_is_refused():
    body = to_csv([GOOD, GOOD]).replace(GOOD[0].encode(), b"caf\xe9", 1)
    boxes = open_images.filter_boxes(io.BytesIO(body), [BOAT])
    assert (len(boxes), boxes.attrs["refused"]) == (1, {"not UTF-8": 1})


def test_many_bad_rows_are_counted_and_twenty_named():
    boxes = open_images.filter_boxes(io.BytesIO(to_csv([GOOD[:-1]] * 30, header=HEADER + CLICKS)), [BOAT])
    assert (len(boxes), boxes.attrs["refused"], len(boxes.attrs["problems"])) == (0, {"malformed": 30}, 20)


def test_bad_rows_of_other_classes_are_no_concern_and_text_elsewhere_is_no_label():
    other = changed(GOOD, LabelName=PERSON, XMin="2")
    longer = changed(GOOD, LabelName=BOAT + "x", XMin="left")
    elsewhere = changed(GOOD, LabelName=PERSON, XClick1X=BOAT)
    twice = changed(GOOD, XClick1X=BOAT, XClick3Y=BOAT)
    boxes = open_images.filter_boxes(io.BytesIO(to_csv([other, longer, elsewhere, GOOD, twice])), [BOAT])
    assert (len(boxes), boxes.attrs["refused"]) == (2, {})


@pytest.mark.parametrize("name", ["nan", "null", "1e5", "0012", "NA"])
def test_ids_stay_text(name):
    assert open_images.filter_boxes(io.BytesIO(to_csv([[name, *GOOD[1:]]])), BOAT)["ImageID"].tolist() == [name]


def test_sides_in_scientific_notation_are_numbers():
    boxes = open_images.filter_boxes(
        io.BytesIO(to_csv([changed(GOOD, XMin="1e-06", XMax=".5", YMin="0", YMax="1")])), BOAT
    )
    np.testing.assert_allclose(boxes[["XMin", "XMax", "YMin", "YMax"]], [[1e-6, 0.5, 0, 1]])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "boxes.csv: found the header ''; expected 'ImageID,Source,LabelName"),
        (b"a,b\n1,2\n", "found the header 'a,b'"),
        (BODY.replace(b"XMax,YMin", b"YMin,XMax", 1), "YMin,XMax"),
        (BODY.split(b"\n", 1)[1], "found the header '"),
        (b"\x00" * 100_000, "found the header"),
        (gzip.compress(BODY)[:-2000], "boxes.csv: a damaged gzip"),
        (gzip.compress(BODY)[:5000] + b"x" * 500 + gzip.compress(BODY)[5500:], "boxes.csv: a damaged gzip"),
    ],
)  # fmt: skip
def test_another_file_is_an_error_that_names_it(tmp_path, body, words):
    (tmp_path / "boxes.csv").write_bytes(body)
    with pytest.raises(ValueError, match=words):
        open_images.filter_boxes(tmp_path / "boxes.csv", [BOAT])


@pytest.mark.parametrize(
    ("source", "mids", "error", "words"),
    [
        (BODY.decode(), ["Boat"], ValueError, "find_class"), ("a", [], ValueError, "mids"),
        (io.StringIO("x"), [BOAT], TypeError, "'rb'"), (5, [BOAT], TypeError, "received 5"),
        ("absent.csv", [BOAT], FileNotFoundError, "absent.csv"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be(source, mids, error, words):
    with pytest.raises(error, match=words):
        open_images.filter_boxes(source, mids)


@needs_real
def test_genuine_rows_and_classes():
    boxes = open_images.filter_boxes(REAL / "oidv6-train-annotations-bbox.head.csv", [PERSON])
    assert boxes["ImageID"].tolist() == ["000002b66c9c498e"] * 3
    np.testing.assert_allclose(
        boxes.loc[0, ["XMin", "XMax", "YMin", "YMax"]].astype(float), [0.0125, 0.195312, 0.148438, 0.5875]
    )
    assert boxes["IsOccluded"].tolist() == [0, 0, 1] and boxes.attrs["rows"] == 3
    few = open_images.read_class_names(REAL / "oidv6-class-descriptions-boxable.head.csv")
    assert len(few) == 3 and few["/m/011k07"] == "Tortoise"
    names = open_images.read_class_names(REAL / "class-descriptions-boxable.csv")
    counts = manifests.load_manifest("open_images").counts
    boat = open_images.find_class(names, "boat")
    assert (len(names), boat) == (counts["classes"], counts["boat"]["mid"])
    kinds = open_images.subclasses(REAL / "bbox_labels_600_hierarchy.json", boat)
    assert kinds[0] == boat and {names[kind]: kind for kind in kinds[1:]} == counts["boat"]["subclasses"]
    craft = open_images.subclasses(REAL / "bbox_labels_600_hierarchy.json", open_images.find_class(names, "Watercraft"))
    assert {names[mid] for mid in craft} == {"Watercraft", "Boat", "Barge", "Gondola", "Canoe", "Jet ski", "Submarine"}


# --- over HTTP: what breaks and what no patience mends, see test_streams ---


@pytest.mark.parametrize("plan", [[], ["status 503", "truncate"]])
def test_boxes_may_come_from_an_address(monkeypatch, plan):
    with serve(monkeypatch) as server:
        server.body, server.plan = BODY, list(plan)
        boxes = open_images.filter_boxes(server.url, [BOAT], **FAST | {"timeout": 20.0})
        check(boxes, BODY, [BOAT])
        assert (boxes.attrs["rows"], boxes.attrs["source"]) == (len(ROWS), server.url)
        assert len(server.requests) == 1 + len(plan)
    with pytest.raises(manifests.DownloadError, match="not https"):
        open_images.filter_boxes("http://example.com/boxes.csv", [BOAT])


# --- images ---

IMAGE_LINE = (
    "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,OriginalSize,OriginalMD5,"
    "Thumbnail300KURL,Rotation"
)
IMAGE_HEADER = IMAGE_LINE.split(",")
MD5 = base64.b64encode(hashlib.md5(b"x").digest()).decode()


def image_row(name, **changes):
    row = {
        "ImageID": name, "Subset": "train", "OriginalURL": f"https://c1.staticflickr.com/{name}_o.jpg",
        "OriginalLandingURL": f"https://www.flickr.com/photos/{name}", "License": "https://creativecommons.org/licenses/by/2.0/",
        "AuthorProfileURL": "https://www.flickr.com/people/a/", "Author": "Zoë, \"Jr.\"", "Title": "Бот, das \"Boot\" 🚤",
        "OriginalSize": "4242", "OriginalMD5": MD5, "Thumbnail300KURL": "", "Rotation": "0.0",
    }  # fmt: skip
    return {**row, **changes}


def images_csv(rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, IMAGE_HEADER, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


IMAGES = [
    image_row("0000e123456789ab", Rotation="270.0"), image_row("1234567890123456", Rotation=""),
    image_row("00000000000001e5", Rotation="nan", OriginalSize=""), image_row("ffff", Title=""),
    image_row("abc", Rotation="90", Author="0000e123456789ab"),
]  # fmt: skip


@pytest.mark.parametrize("block", [1 << 20, 200])
def test_images_are_those_of_the_csv_module(monkeypatch, block):
    monkeypatch.setattr(streams, "BLOCK", block)
    wanted = ["abc", "00000000000001e5", "0000e123456789ab", "absent", "00000000000001e5"]
    images = open_images.filter_images(io.BytesIO(images_csv(IMAGES)), wanted)
    right = [row for row in IMAGES if row["ImageID"] in wanted]
    texts = [name for name in IMAGE_HEADER if name not in ("OriginalSize", "Rotation")]
    assert images[texts].to_dict("records") == [{name: row[name] for name in texts} for row in right]
    assert list(images.columns) == IMAGE_HEADER
    np.testing.assert_array_equal(images["Rotation"], np.float32([270, np.nan, 90]))
    assert images["OriginalSize"].isna().tolist() == [False, True, False] and images["OriginalSize"].iloc[0] == 4242
    assert (images.attrs["missing"], images.attrs["rows"], images.attrs["refused"]) == (["absent"], 5, {})


def test_bad_image_rows_are_named():
    good = images_csv([image_row("a")]).split(b"\n")[1]
    bad = [
        good.replace(b",train,", b","), good.replace(b"0.0", b"45.0"), good.replace(b"4242", b"big"),
        good.replace("Zoë".encode(), b"Zo\xeb"), good.replace(b'Boot""', b'Boot"'), good + b",x",
    ]  # fmt: skip
    body = b"\n".join([IMAGE_LINE.encode(), *bad, good, b""])
    images = open_images.filter_images(io.BytesIO(body), ["a"])
    assert (len(images), images.attrs["refused"]) == (1, {"malformed": 6})
    assert [problem["line"] for problem in images.attrs["problems"]] == [2, 3, 4, 5, 6, 7]
    empty = open_images.filter_images(io.BytesIO(body), [])
    assert (len(empty), str(empty["OriginalSize"].dtype), str(empty["Rotation"].dtype)) == (0, "Int64", "float32")
    with pytest.raises(ValueError, match="expected 'ImageID,Subset"):
        open_images.filter_images(io.BytesIO(BODY), ["a"])


def test_the_transfer_list_is_what_the_service_reads(tmp_path):
    urls = ["https://b.org/ä.jpg", "https://b.org/z.jpg", "https://a.org/b", "https://a.org/B", "https://b.org/z.jpg"]
    rows = [image_row(str(number), OriginalURL=url, OriginalSize=str(10 + len(url))) for number, url in enumerate(urls)]
    images = open_images.filter_images(io.BytesIO(images_csv(rows)), "01234")
    assert open_images.write_transfer_list(images, tmp_path / "list.tsv") == 4
    data = (tmp_path / "list.tsv").read_bytes()
    first, *lines, last = data.split(b"\n")
    assert (first, last) == (b"TsvHttpData-1.0", b"")
    fields = [line.split(b"\t") for line in lines]
    addresses = [field[0] for field in fields]
    assert addresses == sorted({url.encode() for url in urls})
    assert [int(field[1]) for field in fields] == [10 + len(address.decode()) for address in addresses]
    assert all(base64.b64decode(field[2]) == hashlib.md5(b"x").digest() for field in fields)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, f"https://a.org/1\t7\t{MD5}"), ({"OriginalMD5": ""}, "https://a.org/1\t7"), ({"OriginalSize": None}, "https://a.org/1"),
        ({"OriginalSize": float("nan")}, "https://a.org/1"), ({"OriginalSize": 7.0}, f"https://a.org/1\t7\t{MD5}"),
        ({"OriginalURL": "ftp://a.org"}, None), ({"OriginalURL": "https://a.org/1 2"}, None), ({"OriginalURL": ""}, None),
        ({"OriginalSize": -7}, None), ({"OriginalMD5": hashlib.md5(b"x").hexdigest()}, None), ({"OriginalMD5": MD5[:-1]}, None),
        ({"OriginalMD5": base64.b64encode(b"short").decode()}, None), ({"OriginalURL": "https://a.org\thttps://b.org"}, None),
    ],
)  # fmt: skip
def test_lines_of_a_transfer_list(tmp_path, changes, line):
    row = {"OriginalURL": "https://a.org/1", "OriginalSize": 7, "OriginalMD5": MD5, **changes}
    with contextlib.nullcontext() if line else pytest.raises(ValueError, match="expected an http address"):
        open_images.write_transfer_list(pd.DataFrame([row]), tmp_path / "list.tsv")
    text = (tmp_path / "list.tsv").read_text() if line else ""
    assert text == (f"TsvHttpData-1.0\n{line}\n" if line else "")


def test_attribution_names_author_and_licence(tmp_path):
    images = open_images.filter_images(io.BytesIO(images_csv(IMAGES)), ["ffff", "abc"])
    open_images.write_attribution(images, tmp_path / "ATTRIBUTION.csv")
    with (tmp_path / "ATTRIBUTION.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["ImageID"] for row in rows] == ["abc", "ffff"]
    right = {row["ImageID"]: row for row in IMAGES}
    for row in rows:
        assert row == {name: right[row["ImageID"]][name] for name in row}
        assert {"Author", "License", "OriginalLandingURL", "Title", "AuthorProfileURL"} < set(row)


# --- policies, subsets, rotation ---


def flagged(**flags):
    return changed(GOOD, **dict.fromkeys(FLAGS, 0) | flags)


def test_policies_count_what_they_leave_out():
    rows = [
        flagged(), flagged(IsOccluded=1, IsTruncated=1), flagged(IsGroupOf=1), flagged(IsDepiction=1), flagged(IsInside=1),
        flagged(IsDepiction=1, IsInside=1, IsGroupOf=1), changed(GOOD, **dict.fromkeys(FLAGS, -1)), flagged(IsDepiction=1),
    ]  # fmt: skip
    rows = [[f"{number:016x}", *row[1:]] for number, row in enumerate(rows)]
    boxes = open_images.filter_boxes(io.BytesIO(to_csv(rows)), [BOAT])
    every, clean = (cleaning.apply_policy(boxes, policy) for policy in ("all", "clean"))
    assert len(every) == 8 and not every["ignore"].any() and "ignore" not in boxes
    assert [int(name, 16) for name in clean["ImageID"]] == [0, 1, 2, 6]
    assert clean["ignore"].tolist() == [False, False, True, False] and clean["ignore"].dtype == bool
    assert every.attrs["policy"] == {
        "policy": "all",
        "depiction": 0,
        "inside": 0,
        "ignored": 0,
        "boxes": 8,
        "images": 8,
    }
    assert clean.attrs["policy"] == {
        "policy": "clean",
        "depiction": 3,
        "inside": 1,
        "ignored": 1,
        "boxes": 3,
        "images": 4,
    }
    assert clean.attrs["rows"] == 8 and clean.index.tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="allowed: all, clean"):
        cleaning.apply_policy(boxes, "strict")


def test_the_table_of_the_course():
    row = changed(GOOD, XMin=0.1, XMax=0.3, YMin=0.2, YMax=0.6, IsGroupOf=1, IsDepiction=0, IsInside=0)
    boxes = open_images.filter_boxes(
        io.BytesIO(to_csv([row, changed(row, LabelName=CANOE, IsGroupOf=0)])), [BOAT, CANOE]
    )
    table = cleaning.to_boxes(cleaning.apply_policy(boxes, "clean"), {BOAT: 0, CANOE: 1})
    assert list(table.columns) == ["image", "class", "x1", "y1", "x2", "y2", "ignore"]
    np.testing.assert_allclose(table[["class", "x1", "y1", "x2", "y2", "ignore"]].astype(float), [
        [0, 0.1, 0.2, 0.3, 0.6, 1], [1, 0.1, 0.2, 0.3, 0.6, 0],
    ], rtol=1e-6)  # fmt: skip


def test_a_subset_is_always_the_same_and_grows():
    ids = [f"{number:016x}" for number in range(200)]
    right = sorted(ids, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert open_images.choose(reversed(ids), 50) == right[:50] == open_images.choose([*ids, *ids], 50)
    assert open_images.choose(ids, 500) == right and open_images.choose(ids, 0) == []
    more = open_images.choose([*ids, *(f"{number:016x}" for number in range(200, 300))], 50)
    assert len(set(more) & set(right[:50])) > 25


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_upright_pictures_and_boxes_agree(rotation):
    """A red rectangle is drawn, the picture is turned by OpenCV, and the rectangle is looked for by its colour."""
    import cv2

    image = np.zeros((60, 100, 3), np.uint8)
    image[10:25, 20:80] = 255, 0, 0
    image[10:15, 20:26] = 0, 255, 0  # its upper left corner
    turns = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}.get(rotation)
    right = image if turns is None else cv2.rotate(image, turns)
    turned = cleaning.upright(image, rotation)
    np.testing.assert_array_equal(turned, right)
    assert turned.flags["C_CONTIGUOUS"]
    for colour, box in ((slice(0, 2), (20, 10, 80, 25)), (slice(1, 2), (20, 10, 26, 15))):
        ys, xs = np.nonzero(turned[..., colour].any(axis=-1))
        height, width = turned.shape[:2]
        seen = xs.min() / width, ys.min() / height, (xs.max() + 1) / width, (ys.max() + 1) / height
        x1, y1, x2, y2 = np.array(box) / (100, 60, 100, 60)
        np.testing.assert_allclose(cleaning.upright_boxes(x1, y1, x2, y2, rotation), seen, atol=1e-12)
        many = cleaning.upright_boxes(*(np.full(3, side) for side in (x1, y1, x2, y2)), rotation)
        np.testing.assert_allclose(many, np.tile(np.array(seen)[:, None], 3), atol=1e-12)


# --- manifests ---


def test_sources_are_the_manifests():
    manifest = manifests.load_manifest("open_images")
    assert sorted(manifest.counts["subsets"]) == ["test", "train", "validation"]
    boxes = manifest.counts["subsets"]["train"]["boxes"]
    assert manifest.file(boxes).size == 2_258_447_590
    assert manifest.counts["md5"][boxes] == "3c3e70cfaba5757ea5c2604b19cac3b2"
    for subset, names in manifest.counts["subsets"].items():
        found = open_images.sources(subset)
        assert sorted(found) == sorted(names) == ["boxes", "images"]
        for kind, name in names.items():
            assert found[kind].startswith("https://storage.googleapis.com/openimages/")
            assert found[kind].endswith(name) and subset in name
            assert len(manifest.counts["md5"][name]) == 32


def test_counts_of_the_seed_and_sizes_of_the_weights_agree_with_themselves():
    lists = manifests.load_manifest("open_images").counts["seed"]["lists"]
    assert lists["images"] == lists["train"] + lists["validation"] + lists["test"] == 7810
    darknet = manifests.load_manifest("darknet")
    for file in darknet.files:
        assert file.size == 20 + 4 * darknet.counts["parameters"][file.name.removesuffix(".weights")]
        assert file.sources[0].url == f"https://data.pjreddie.com/files/{file.name}"


@needs_real
def test_the_seeds_lists_are_as_long_as_the_manifest_says():
    lists = manifests.load_manifest("open_images").counts["seed"]["lists"]
    for name, count in {"tr": lists["train"], "val": lists["validation"], "test": lists["test"]}.items():
        text = (REAL.parent / "seed_project" / "metadata" / f"{name}_list.txt").read_text()
        assert len(text.split()) == count
