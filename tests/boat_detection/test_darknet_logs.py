"""Training logs of three dialects, genuine and made up, and the lines that the package writes itself."""

import math
import re

import numpy as np
import pandas as pd
import pytest

from helpers import runtime
from helpers.boat_detection.formats.darknet import logs

SHARED = runtime.repo_root().parent / "shared" / "data" / "boats" / "darknet"
ITERATION_COLUMNS = ["iteration", "loss", "avg_loss", "rate", "seconds", "images"]
REGION_COLUMNS = ["iteration", "head", "iou", "count", "obj", "no_obj", "class_loss", "iou_loss", "total_loss"]
NAN = math.nan

PJREDDIE = """yolov3
layer     filters    size              input                output
    0 conv     32  3 x 3 / 1   416 x 416 x   3   ->   416 x 416 x  32  0.299 BFLOPs
Learning Rate: 0.001, Momentum: 0.9, Decay: 0.0005
Resizing
512
Loaded: 0.000041 seconds
Region 82 Avg IOU: 0.412300, Class: 0.881200, Obj: 0.301500, No Obj: 0.004210, .5R: 0.375000, .75R: 0.062500,  count: 16
Region 106 Avg IOU: -nan, Class: -nan, Obj: -nan, No Obj: 0.003100, .5R: -nan, .75R: -nan,  count: 0
1200: 3.214500, 3.801200 avg, 0.001000 rate, 4.120000 seconds, 76800 images
Saving weights to backup/yolov3.backup
"""
ALEXEYAB_2019 = (
    "v3 (mse loss, Normalizer: (iou: 0.75, cls: 1.00) Region 82 Avg (IOU: 0.512000, GIOU: 0.471000), Class: 0.910000, "
    "Obj: 0.402000, No Obj: 0.003900, .5R: 0.600000, .75R: 0.100000, count: 10, class_loss = 1.250000, iou_loss = 0.830000, "
    "total_loss = 2.080000 \n"
    " 1199/6000: loss=2.2 hours left=12.4\r\x07\x1b[H\x1b[J"
    " 1200: 2.115000, 2.540000 avg loss, 0.001000 rate, 3.950000 seconds, 76800 images, 12.400000 hours left\n"
    "\r 1200/6000: loss=2.1 hours left=12.4\x07"
)
ALEXEYAB = (
    " (next mAP calculation at 1300 iterations) \n Last accuracy mAP@0.50 = 61.20 %, best = 63.10 % \n"
    "v3 (mse loss, Normalizer: (iou: 0.75, obj: 1.00, cls: 1.00) Region 94 Avg (IOU: 0.633100), count: 7, "
    "class_loss = 0.412000, iou_loss = 0.254000, total_loss = 0.666000 \n"
    " total_bbox = 51200, rewritten_bbox = 0.412000 % \n"
    "v3 (mse loss, Normalizer: (iou: 0.75, obj: 1.00, cls: 1.00) Region 106 Avg (IOU: 0.000000), count: 1, "
    "class_loss = 0.000104, iou_loss = 0.000000, total_loss = 0.000104 \n"
    "Loaded: 0.200000 seconds - performance bottleneck on CPU or Disk HDD/SSD\n"
    "\x1b[2J\x1b[1;1H 1200: 0.941000, 1.120000 avg loss, 0.001000 rate, 3.700000 seconds, 76800 images, 9.800000 hours left\n"
)
HANK_AI = (  # as src-lib/detector.cpp and yolo_layer.cpp of version 5 print them, in colour and with a title; --verbose
    "v3 ciou loss, Normalizer: (iou: 0.07, obj: 1.00, cls: 1.00) Region 30 Avg (IOU: 0.633100), count: 7, class_loss: 0.412000, "
    "iou_loss: 0.254000, total_loss: 0.666000\n"
    "\x1b]2;1200/6000: loss=0.4 map=0.61 best=0.63 time=7 seconds\x07"
    "\x1b[1;37m1200\x1b[0m: loss=\x1b[1;36m0.444\x1b[0m, avg loss=\x1b[1;36m0.329\x1b[0m, last=\x1b[0;34m61.20%\x1b[0m, "
    "best=63.10%, mAP=1300, rate=0.00002600, load 64=12.3 milliseconds, train=64.4 milliseconds, 76800 images, "
    "time remaining=7 seconds\n"
)
HANK_AI_2 = "1200: loss=0.444, avg loss=0.329, rate=0.000026, 1.250 seconds, 76800 images, time remaining=7 seconds\n"
DIALECTS = {  # text, the iteration, the regions
    "pjreddie": (
        PJREDDIE,
        [1200, 3.2145, 3.8012, 0.001, 4.12, 76800],
        [
            [1200, 82, 0.4123, 16, 0.3015, 0.00421, NAN, NAN, NAN],
            [1200, 106, NAN, 0, NAN, 0.0031, NAN, NAN, NAN],
        ],
    ),
    "alexeyab 2019": (
        ALEXEYAB_2019,
        [1200, 2.115, 2.54, 0.001, 3.95, 76800],
        [[1200, 82, 0.512, 10, 0.402, 0.0039, 1.25, 0.83, 2.08]],
    ),
    "alexeyab": (
        ALEXEYAB,
        [1200, 0.941, 1.12, 0.001, 3.7, 76800],
        [
            [1200, 94, 0.6331, 7, NAN, NAN, 0.412, 0.254, 0.666],
            [1200, 106, 0, 1, NAN, NAN, 0.000104, 0, 0.000104],
        ],
    ),
    "hank-ai": (
        HANK_AI,
        [1200, 0.444, 0.329, 2.6e-5, 0.0644, 76800],
        [[1200, 30, 0.6331, 7, NAN, NAN, 0.412, 0.254, 0.666]],
    ),
    "hank-ai 2": (HANK_AI_2, [1200, 0.444, 0.329, 2.6e-5, 1.25, 76800], []),
}


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_dialects(dialect, ending, encoding, tmp_path):
    text, iteration, regions = DIALECTS[dialect]
    iterations, found = logs.parse_log(write(tmp_path / "a.log", text.replace("\n", ending), encoding))
    pd.testing.assert_frame_equal(iterations, pd.DataFrame([iteration], columns=ITERATION_COLUMNS))
    expected = pd.DataFrame(regions, columns=REGION_COLUMNS).astype({"iteration": float, "count": float, "iou": float})
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert found["head"].dtype.kind == "i" and found["iou"].dtype.kind == "f"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "before", ["2024-03-01 12:00:01.123 ", "[12:00:01] ", "Nov 29 09:25:21 host darknet[77]: ", "0.5 ", "12:"]
)
def test_text_before_each_line(dialect, before, tmp_path):
    text, iteration, regions = DIALECTS[dialect]
    text = "".join(before + line for line in text.splitlines(keepends=True))
    iterations, found = logs.parse_log(write(tmp_path / "a.log", text))
    assert iterations.values.tolist() == [pytest.approx(iteration)]
    np.testing.assert_equal(found.values.tolist(), regions)


def test_regions_belong_to_the_iteration_after_them(tmp_path):
    text = ""
    for iteration in (7, 8):
        text += (logs.format_region(82, [0.5, 2, NAN, NAN, 1, 2, 3]) + "\n") * 3
        text += logs.format_iteration(iteration, 1.0, 1.0, 0.1, 1.0, 64 * iteration) + "\n"
    text += logs.format_region(94, [0.25, 1, NAN, NAN, 1, 2, 3])  # killed in iteration 9
    log = logs.parse_log(write(tmp_path / "a.log", text))
    assert log.regions["iteration"].tolist()[:6] == [7, 7, 7, 8, 8, 8]
    assert math.isnan(log.regions["iteration"][6]) and log.regions["head"][6] == 94
    assert log.iterations["iteration"].tolist() == [7, 8]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-nan", NAN),
        ("nan", NAN),
        ("-nan(ind)", NAN),
        ("inf", math.inf),
        ("-inf", -math.inf),
        ("1.5e-07", 1.5e-7),
        ("+3", 3),
        ("-1.#IND00", NAN),
        ("1.#QNAN0", NAN),
        ("1.#SNAN0", NAN),
        ("1.#INF00", math.inf),
        ("-1.#INF00", -math.inf),
        ("1.#INF", math.inf),
        ("-1.#J", NAN),
    ],
)
def test_numbers(text, value, tmp_path):
    path = write(
        tmp_path / "a.log", f"12: {text}, {text} avg loss, 1e-3 rate, 1.0 seconds, 768 images, -1.0 hours left\n"
    )
    row = logs.parse_log(path).iterations.iloc[0]
    np.testing.assert_equal([row["loss"], row["avg_loss"], row["rate"]], [value, value, 1e-3])


def test_regions_of_visual_studio(tmp_path):
    """As of pjreddie/darknet on Windows: a head without an object, and one that blew up."""
    text = PJREDDIE.replace("-nan", "-1.#IND00").replace("IOU: 0.412300", "IOU: 1.#INF00")
    regions = logs.parse_log(write(tmp_path / "a.log", text)).regions
    np.testing.assert_equal(regions["iou"].tolist(), [math.inf, NAN])
    np.testing.assert_equal(regions["obj"].tolist(), [0.3015, NAN])


def test_the_last_run_counts(tmp_path):
    """Killed in iteration 1004 and taken up from the weights of 1000, with other losses."""
    text = ""
    for run, last in ((1, 1003), (2, 1002)):
        text += "Learning Rate: 0.001, Momentum: 0.9, Decay: 0.0005\n"
        for iteration in range(1001, last + 1):
            text += logs.format_region(82, [run / 10, 2, NAN, NAN, 1, 2, 3]) + "\n"
            text += logs.format_iteration(iteration, run, run, 0.1, 1.0, 64 * iteration) + "\n"
            text += MAP.format(ap=50, map=run / 10, percent=10 * run)
        text += logs.format_region(94, [run / 10, 2, NAN, NAN, 1, 2, 3]) + "\n"
    iterations, regions = logs.parse_log(write(tmp_path / "a.log", text))
    assert iterations[["iteration", "loss"]].values.tolist() == [[1001, 2], [1002, 2]]
    np.testing.assert_equal(regions[["iteration", "iou"]].values.tolist(), [[1001, 0.2], [1002, 0.2], [NAN, 0.2]])
    points, classes = logs.parse_map(tmp_path / "a.log")
    assert points[["iteration", "map"]].values.tolist() == [[1001, 0.2], [1002, 0.2]]
    assert classes["iteration"].tolist() == [1001, 1001, 1002, 1002]


def test_several_records_on_a_line(tmp_path):
    """Threads that print at once: lines lose their ends, none its values."""
    first, second = (logs.format_region(head, [head / 100, 2, NAN, NAN, 1, 2, head]) for head in (82, 94))
    iteration = logs.format_iteration(7, 1.0, 2.0, 0.1, 1.0, 448)
    log = logs.parse_log(write(tmp_path / "a.log", f"{first}{second}{iteration}{first}\n{second}\n"))
    assert log.iterations["iteration"].tolist() == [7]
    np.testing.assert_equal(log.regions["iteration"].tolist(), [7, 7, NAN, NAN])
    assert log.regions["head"].tolist() == [82, 94, 82, 94]
    assert log.regions["total_loss"].tolist() == [82, 94, 82, 94] and log.regions["obj"].isna().all()


def test_lines_that_only_look_alike(tmp_path):
    text = ALEXEYAB + (
        " 1300/6000: loss=0.9 hours left=9.8\n(next mAP calculation at 1300 iterations)\n  12 conv  32\n"
        "12: 1.0, 2.0 avg loss\nRegion 82\nCUDNN_HALF=1 \n 3 : compute_capability = 750\n"
    )
    log = logs.parse_log(write(tmp_path / "a.log", text))
    assert (len(log.iterations), len(log.regions)) == (1, 2)


def test_iterations_alone(tmp_path):
    """AlexeyAB's log without 2>&1."""
    log = logs.parse_log(write(tmp_path / "a.log", logs.format_iteration(1, 2.0, 2.0, 0.0, 1.0, 64)))
    assert len(log.iterations) == 1 and log.regions.empty
    assert list(log.regions.columns) == REGION_COLUMNS
    assert logs.iou_by_iteration(log.regions).empty


def test_files_that_are_no_logs(tmp_path):
    for text, found in (
        ("\nhello\n", "2 lines, the first with text 'hello'"), ("\n\n", "2 lines without text"), ("", "an empty file"),
        ("<html><body>", "a web page"), ("\x1f\x8b\x08", "a gzip file"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=rf"a\.log: no line of a training in it, but {found}.*2>&1"):
            logs.parse_log(write(tmp_path / "a.log", text, "latin1"))
    with pytest.raises(FileNotFoundError, match=r"b\.log"):
        logs.parse_log(tmp_path / "b.log")


def test_written_lines_are_alexeyabs_and_are_read_back(tmp_path):
    row = dict(zip(REGION_COLUMNS[2:], [0.6331, 7, NAN, NAN, 0.412, 0.254, 0.666], strict=True))
    region = logs.format_region(94, list(row.values()))
    iteration = logs.format_iteration(1200, 0.941, 1.12, 0.001, 3.7, 76800, 9.8)
    lines = ALEXEYAB.splitlines()
    assert region == lines[2]
    assert iteration == lines[-1].removeprefix("\x1b[2J\x1b[1;1H")
    assert "v3 (ciou loss, Normalizer: (iou: 0.07, obj: 1.00, cls: 1.00) Region 5 " in logs.format_region(
        5, list(row.values()), loss="ciou", iou_normalizer=0.07
    )
    log = logs.parse_log(write(tmp_path / "a.log", f"{region}\n{iteration}\n"))
    assert log.regions.iloc[0].drop("iteration").to_dict() == pytest.approx({"head": 94, **row}, nan_ok=True)
    assert log.iterations.iloc[0].tolist() == [1200, 0.941, 1.12, 0.001, 3.7, 76800]


def test_long_synthetic_log(tmp_path):
    """300 iterations of 2 mini-batches with 3 heads, one of them often empty."""
    generator = np.random.default_rng(0)
    expected, lines, average = {}, ["mini_batch = 4, batch = 8, time_steps = 1, train = 1 "], None
    for iteration in range(1, 301):
        ious, counts = generator.random((2, 3)), generator.integers(0, 4, (2, 3))
        for batch in range(2):
            for head, iou, count in zip((82, 94, 106), ious[batch], counts[batch], strict=True):
                row = [iou, count, NAN, NAN, 0.1, 0.2, 0.3] if count else [0, 1, NAN, NAN, 0.1, 0, 0.1]
                lines.append(logs.format_region(head, row))
        loss = 1000 / iteration
        average = loss if average is None else 0.9 * average + 0.1 * loss
        lines.append(logs.format_iteration(iteration, loss, average, 0.001, 0.5, 8 * iteration))
        if counts.sum():
            expected[iteration] = (ious * counts).sum() / counts.sum()
    log = logs.parse_log(write(tmp_path / "a.log", "\n".join(lines) + "\n"))
    assert len(log.regions) == 1800
    np.testing.assert_allclose(log.iterations["loss"], 1000 / np.arange(1, 301), atol=1e-6)
    assert logs.iou_by_iteration(log.regions).to_dict() == pytest.approx(expected, abs=1e-5)


def test_mean_iou_by_hand():
    rows = [
        [1, 82, 0.8, 3, NAN, NAN, NAN, 0.1, 0.1],
        [1, 94, 0.4, 1, NAN, NAN, NAN, 0.1, 0.1],
        [1, 106, 0.0, 1, NAN, NAN, 0.2, 0.0, 0.2],  # AlexeyAB's empty head
        [2, 82, NAN, 0, NAN, 0.1, NAN, NAN, NAN],  # pjreddie's
        [3, 82, 0.0, 2, NAN, NAN, 0.1, 0.5, 0.6],  # boxes that miss: they count
        [3, 94, 0.5, 2, NAN, NAN, 0.1, 0.5, 0.6],
        [4, 82, 0.0, 0, NAN, 0.1, 0.1, 0.5, 0.6],
    ]
    found = logs.iou_by_iteration(pd.DataFrame(rows, columns=REGION_COLUMNS))
    assert found.to_dict() == pytest.approx({1: 0.7, 3: 0.25})


MAP = (
    "class_id = 0, name = Boat, ap = {ap:.2f}%   \t (TP = 812, FP = 143) \n"
    "class_id = 1, name = jet ski, ap = 3.00%   \t (TP = 1, FP = 0) \n\n"
    " for conf_thresh = 0.25, precision = 0.85, recall = 0.74, F1-score = 0.79 \n"
    " for conf_thresh = 0.25, TP = 813, FP = 143, FN = 285, average IoU = 66.10 % \n\n"
    " IoU threshold = 50 %, used Area-Under-Curve for each unique Recall \n"
    " mean average precision (mAP@0.50) = {map:.6f}, or {percent:.2f} % \nTotal Detection Time: 3 Seconds\n"
)


def test_evaluations(tmp_path):
    text = MAP.format(ap=71.2, map=0.371, percent=37.1)
    log = logs.parse_map(write(tmp_path / "map.txt", text))
    point = log.points.iloc[0].to_dict()
    assert len(log.points) == 1
    assert point == pytest.approx(
        {
            "iteration": NAN, "map": 0.371, "iou": 0.5, "conf_thresh": 0.25, "precision": 0.85, "recall": 0.74, "f1": 0.79,
            "tp": 813, "fp": 143, "fn": 285, "average_iou": 0.661,
        },
        nan_ok=True,
    )  # fmt: skip
    assert log.classes.drop(columns="iteration").to_dict("list") == {
        "class_id": [0, 1], "name": ["Boat", "jet ski"], "ap": pytest.approx([0.712, 0.03]), "tp": [812, 1], "fp": [143, 0],
    }  # fmt: skip


def test_evaluations_during_a_training(tmp_path):
    text = ""
    for iteration in (1000, 1100, 1200):
        text += logs.format_iteration(iteration, 1, 1, 1, 1, 64) + "\n"
        if iteration != 1100:  # the second line of a training repeats the first; equal values in a row are two points
            text += MAP.format(ap=50, map=0.265, percent=26.5) + " mean_average_precision (mAP@0.50) = 0.265000 \n"
    log = logs.parse_map(write(tmp_path / "a.log", text + " Last accuracy mAP@0.50 = 26.50 %, best = 26.50 % \n"))
    assert log.points[["iteration", "map"]].values.tolist() == [[1000, 0.265], [1200, 0.265]]
    assert log.classes["iteration"].tolist() == [1000, 1000, 1200, 1200]


def test_evaluations_of_hank_ai(tmp_path):
    """The lines of detector_map.cpp; all in percent, here from 0 to 1."""
    text = HANK_AI + (
        "-> for conf_thresh=0.25, precision=0.85, recall=0.74, F1 score=0.79\n"
        "-> for conf_thresh=0.25, TP=813, FP=143, FN=285, average IoU=66.10%\n"
        "-> IoU threshold=50.00%, used area-under-curve for each unique recall\n"
        "-> mean average precision (mAP@0.50)=\x1b[0;34m61.20%\x1b[0m\n"
        "Last accuracy mAP@0.5=61.20%, best=61.20% at iteration #1200.\n"
    )
    points, _ = logs.parse_map(write(tmp_path / "a.log", text))
    assert points.iloc[0].to_dict() == pytest.approx(
        {
            "iteration": 1200, "map": 0.612, "iou": 0.5, "conf_thresh": 0.25, "precision": 0.85, "recall": 0.74, "f1": 0.79,
            "tp": 813, "fp": 143, "fn": 285, "average_iou": 0.661,
        }
    )  # fmt: skip


def test_log_without_evaluations(tmp_path):
    points, classes = logs.parse_map(write(tmp_path / "a.log", ALEXEYAB))
    assert points.empty and classes.empty and list(points.columns) == logs.POINT_COLUMNS


@pytest.mark.parametrize("name", ["train_alexeyab.log", "train_pjreddie.log"])
def test_genuine_logs(name):
    """Against cuts at fixed words, which know nothing of our patterns."""
    path = SHARED / name
    if not path.is_file():
        pytest.skip("needs ../shared")
    text = path.read_text()
    iterations, regions = logs.parse_log(path)
    lines = [line for line in text.splitlines() if line.endswith(" images") or " images, " in line]
    assert iterations["iteration"].tolist() == [int(line.split(":")[0]) for line in lines]
    assert iterations["loss"].tolist() == [float(line.split()[1].strip(",")) for line in lines]
    assert iterations["avg_loss"].tolist() == [float(line.split()[2]) for line in lines]
    assert iterations["images"].tolist() == [int(line.split(" images")[0].split()[-1]) for line in lines]
    boxes = [line for line in text.splitlines() if "Region" in line]
    assert len(regions) == len(boxes) == text.count("Region ")
    assert regions["head"].tolist() == [int(line.partition("Region ")[2].split()[0]) for line in boxes]
    ious = [line.partition("IOU: ")[2].split(",")[0].strip(")") for line in boxes]
    np.testing.assert_array_equal(regions["iou"], [float(iou) for iou in ious])
    assert regions["count"].tolist() == [int(re.findall(r"\d+", line.partition("count: ")[2])[0]) for line in boxes]
    last = "No Obj: " if name == "train_pjreddie.log" else "total_loss = "
    column = "no_obj" if name == "train_pjreddie.log" else "total_loss"
    np.testing.assert_array_equal(regions[column], [float(line.partition(last)[2].split(",")[0]) for line in boxes])
    after = text.rpartition(" images")[2]
    assert regions["iteration"].isna().sum() == after.count("Region "), "lines of an iteration that did not end"
    means = logs.iou_by_iteration(regions)
    assert means.between(0, 1).all()
    assert means.tail(20).mean() > 0.5


def test_genuine_log_as_a_whole():
    """Figures of the logs taken with grep: mini-batches per iteration, nan where a head had no object."""
    if not (SHARED / "train_pjreddie.log").is_file():
        pytest.skip("needs ../shared")
    iterations, regions = logs.parse_log(SHARED / "train_pjreddie.log")
    assert (len(iterations), len(regions)) == (2115, 6346)
    assert regions.groupby("iteration").size().eq(3).all()
    assert (regions["iou"].isna() == (regions["count"] == 0)).all()
    assert regions[["class_loss", "iou_loss", "total_loss"]].isna().all(axis=None)
    iterations, regions = logs.parse_log(SHARED / "train_alexeyab.log")
    assert (len(iterations), len(regions)) == (71, 3402)
    assert regions[["obj", "no_obj"]].isna().all(axis=None)
    assert regions["class_loss"].add(regions["iou_loss"]).sub(regions["total_loss"]).abs().max() < 1e-5
