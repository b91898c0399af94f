"""`helpers.plots`: what is drawn is what was handed over."""

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from helpers import plots


@pytest.fixture(autouse=True)
def nothing_left_open():
    yield
    assert plt.get_fignums() == [], "an open figure would be shown twice in a notebook"


def pixels(image):
    assert image.data[:3] == b"\xff\xd8\xff", "a JPEG"
    return cv2.imdecode(np.frombuffer(image.data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_frames_keep_their_order_and_color():
    colors = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    shown = pixels(plots.plot_frames([np.full((20, 30, 3), c, np.uint8) for c in colors], columns=2))
    height, width = shown.shape[:2]
    for index, color in enumerate(colors):
        row, column = divmod(index, 2)
        middle = shown[height * (2 * row + 1) // 4, width * (2 * column + 1) // 4]
        assert np.abs(middle.astype(int) - color).max() < 25
    assert shown[height * 3 // 4, width * 3 // 4].min() > 240, "the place left over is white"


def test_curves_draw_every_log_that_has_the_column():
    logs = {
        "a": pd.DataFrame({"epoch": [1, 2], "loss": [3.0, 1.0], "auc": [0.5, 0.9]}),
        "b": pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 2.0]}),
    }
    figure = plots.plot_curves(logs, ["loss", "auc"], titles=["the loss", "the AUC"])
    left, right = figure.axes
    assert [line.get_ydata().tolist() for line in left.lines] == [[3.0, 1.0], [2.0, 2.0]]
    assert [line.get_ydata().tolist() for line in right.lines] == [[0.5, 0.9]]
    assert left.get_title() == "the loss"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"], "outside, where it covers no line"


def test_matrix_writes_its_numbers_and_leaves_zeros_empty():
    figure = plots.plot_matrix(np.array([[0, 7], [12, 0]]), ["x", "y"], ["p", "q"], title="t")
    (axis,) = figure.axes
    assert {(text.get_text(), *text.get_position()) for text in axis.texts} == {("7", 1, 0), ("12", 0, 1)}
    assert [label.get_text() for label in axis.get_yticklabels()] == ["x", "y"]


def test_plane_has_one_color_per_group_and_no_endless_legend():
    x = np.arange(30.0)
    figure = plots.plot_plane(x, -x, {"two": ["a", "b"] * 15, "thirty": range(30)})
    two, thirty = figure.axes
    assert [len(part.get_offsets()) for part in two.collections] == [15, 15] and len(thirty.collections) == 30
    assert two.get_legend() is not None and thirty.get_legend() is None


def test_thumbnails_stand_where_their_points_are():
    black = np.zeros((8, 8, 3), np.uint8)
    shown = pixels(plots.plot_thumbnails(np.array([0.0, 1.0]), np.array([0.0, 1.0]), [black, black], side=0.1))
    quarter = [half.mean() for side in np.array_split(shown, 2) for half in np.array_split(side, 2, axis=1)]
    assert quarter[1] < 250 > quarter[2] and quarter[0] > 253 < quarter[3], "bottom left and top right"


def test_the_largest_weight_of_all_frames_is_the_reddest():
    frames, weights = np.full((2, 2, 2, 1), 0.5), np.zeros((2, 2, 2))
    weights[1, 0, 1], weights[0, 0, 0] = 4.0, 2.0
    shown = plots.tint(frames, weights)
    assert shown.shape == (2, 2, 2, 3)
    np.testing.assert_allclose(shown[1, 0, 1], [0.8, 0.26, 0.2], atol=1e-6)  # 0.4 of the frame, 0.6 of red
    np.testing.assert_allclose(shown[0, 0, 0], [0.65, 0.38, 0.35], atol=1e-6)
    np.testing.assert_array_equal(shown[weights == 0], 0.5)
    np.testing.assert_array_equal(plots.tint(frames, 0 * weights), np.full((2, 2, 2, 3), 0.5, "float32"))
