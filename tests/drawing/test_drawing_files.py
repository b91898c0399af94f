"""Files of the drawn data sets: failures are told with their reason, points come back as they were."""

import numpy as np
import pandas as pd
import pytest

from helpers.drawing.files import draw_all, read_points, write_points

NAMES = ("nose", "chin")


def draw(item):
    if item == "full":
        raise OSError("no space left on device")
    if item in ("chess", "golf"):
        raise ValueError(f"no scene for {item}")
    return {"name": item, "frames": len(item)}


def test_rows_come_in_order():
    table = draw_all(draw, ["b", "aa"], what="clips", label="drawing", jobs=1)
    assert table["name"].tolist() == ["b", "aa"] and table["frames"].tolist() == [1, 2]


def test_failures_stop_with_the_first_reason():
    with pytest.raises(RuntimeError, match=r"2 of 3 clips could not be drawn: ValueError: no scene for golf"):
        draw_all(draw, ["golf", "a", "chess"], what="clips", label="", jobs=1)
    with pytest.raises(OSError, match=r"1 clips could not be written.*no space left"):
        draw_all(draw, ["golf", "full"], what="clips", label="", jobs=1)


def test_points_come_back(tmp_path):
    points = np.arange(20, dtype=np.float32).reshape(5, 2, 2) + np.float32(0.126)
    points[1] = np.nan
    table = pd.DataFrame({"clip": ["x/y.mp4", "none", "007"], "frames": [3, 0, 2]})
    table["points"] = [points[:3], points[:0], points[3:]]
    write_points(tmp_path, table, NAMES, key="clip")
    header, first, second, *_ = (tmp_path / "points.csv").read_text().splitlines()
    assert header.replace('"', "") == "clip,frame,nose_x,nose_y,chin_x,chin_y"
    assert first == "x/y.mp4,0,0.13,1.13,2.13,3.13" and second == "x/y.mp4,1,nan,nan,nan,nan"
    found = read_points(tmp_path, NAMES)
    assert list(found) == ["x/y.mp4", "007"] and found["007"].dtype == np.float32
    np.testing.assert_allclose(np.concatenate(list(found.values())), points, atol=0.005)
    with pytest.raises(FileNotFoundError):
        read_points(tmp_path / "none", NAMES)
