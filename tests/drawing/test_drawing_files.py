"""Files of the drawn data sets: failures are told with their reason, points come back as they were."""

import numpy as np
import pandas as pd
import pytest

from helpers.drawing.files import draw_all, read_points, write_points

NAMES = ("nose", "chin")


def draw(item):
    if item == "full":
        raise OSError("no space left on device")
    if item == "bad":
        raise ValueError("no such scene")
    return {"name": item, "frames": len(item)}


def test_rows_come_in_order():
    table = draw_all(draw, ["b", "aa"], what="clips", label="drawing", jobs=1)
    assert table["name"].tolist() == ["b", "aa"] and table["frames"].tolist() == [1, 2]


def test_failures_stop_with_the_first_reason():
    with pytest.raises(RuntimeError, match=r"2 of 3 clips could not be drawn: ValueError: no such scene"):
        draw_all(draw, ["bad", "a", "bad"], what="clips", label="", jobs=1)
    with pytest.raises(OSError, match=r"1 clips could not be written.*no space left"):
        draw_all(draw, ["bad", "full"], what="clips", label="", jobs=1)


def test_points_come_back(tmp_path):
    points = np.arange(20, dtype=np.float32).reshape(5, 2, 2) + np.float32(0.126)
    points[1] = np.nan
    table = pd.DataFrame({"clip": ["007", "none", "x/y.mp4"], "frames": [2, 0, 3]})
    table["points"] = [points[:2], points[:0], points[2:]]
    write_points(tmp_path, table, NAMES, key="clip")
    header, first, second, *_ = (tmp_path / "points.csv").read_text().splitlines()
    assert header.replace('"', "") == "clip,frame,nose_x,nose_y,chin_x,chin_y"
    assert first == "007,0,0.13,1.13,2.13,3.13" and second == "007,1,nan,nan,nan,nan"
    found = read_points(tmp_path, NAMES)
    assert list(found) == ["007", "x/y.mp4"] and found["007"].dtype == np.float32
    np.testing.assert_allclose(np.concatenate(list(found.values())), points, atol=0.005)
    with pytest.raises(FileNotFoundError):
        read_points(tmp_path / "none", NAMES)
