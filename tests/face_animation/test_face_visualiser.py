"""Pictures of what the networks do: that the right things stand in the right places and colours."""

from helpers import runtime

runtime.quiet_start()

import colorsys

import numpy as np
import pytest
from keras import ops

from helpers.face_animation.evaluation import visualiser

COUNT = 4


def outputs(batch=2, size=16):
    """As of a generator, of an untouched source: the deformation is the identity, all of the mask in keypoint 1."""
    axis = np.linspace(-1, 1, size, dtype="float32")
    mask = np.zeros((batch, size, size, COUNT + 1), "float32")
    mask[..., 1] = 1
    rng = np.random.default_rng(0)
    parts = {
        "prediction": np.full((batch, 2 * size, 2 * size, 3), 0.5, "float32"),
        "occlusion": np.full((batch, size, size, 1), 0.2, "float32"),
        "mask": mask,
        "deformation": np.broadcast_to(np.stack(np.meshgrid(axis, axis), axis=-1), (batch, size, size, 2)),
        "sparse_deformed": rng.random((batch, COUNT + 1, size, size, 3), dtype="float32"),
        "kp_source_value": np.zeros((batch, COUNT, 2), "float32"),
        "kp_driving_value": np.full((batch, COUNT, 2), np.nan, "float32"),
    }
    return {name: ops.convert_to_tensor(part) for name, part in parts.items()}


def ramps(batch=2, side=32):
    """Straight ramps, which bilinear resizing cannot change inside."""
    y, x = np.mgrid[0:side, 0:side] * 4
    return np.broadcast_to(np.stack([x, y, x + y], axis=-1).astype("uint8"), (batch, side, side, 3)).copy()


def test_circles_lie_where_the_keypoints_are():
    black = np.zeros((65, 33, 3), "uint8")
    found = visualiser.draw_keypoints(black, np.array([[-0.5, 0.5], [1, -1], [np.nan, 0], [50, 0]]), size=3)
    rows, columns = np.nonzero(found.any(axis=-1) & (np.arange(33) < 16))
    assert (columns.mean(), rows.mean()) == pytest.approx((8, 48), abs=0.1)  # (-0.5 + 1) / 2 * 32, (0.5 + 1) / 2 * 64
    assert 25 < len(rows) < 60  # pi 3^2 = 28, and the smoothed rim
    assert found[0, 32].any() and not found[32, 16].any() and not black.any()
    assert found[48, 8].tolist() == visualiser.palette(4)[0].tolist()


def test_colours_go_around_the_rainbow():
    hues = [colorsys.rgb_to_hsv(*(colour / 255))[0] for colour in visualiser.palette(10)]
    assert hues[1:] == sorted(hues[1:]) and len(set(hues)) == 10


def test_columns_of_a_batch():
    source, driving = ramps(), ramps()[:, ::-1]
    found = visualiser.columns(source, driving, outputs())
    names = ["source", "driving", "deformed", "prediction", "occlusion"]
    names += [f"{part} {k}" for k in range(COUNT + 1) for part in ("motion", "mask")] + ["masks"]
    assert list(found) == names
    assert all(part.shape == (2, 32, 32, 3) and part.dtype == np.uint8 for part in found.values())
    assert (found["driving"] == driving).all()  # its keypoints are NaN
    assert (found["source"] != source).any() and (found["source"][:, :8] == source[:, :8]).all()
    assert (
        np.abs(found["deformed"][:, 2:-2, 2:-2].astype(int) - source[:, 2:-2, 2:-2]).max() <= 4
    )  # half-pixel resizing
    assert (found["prediction"] == 128).all() and (found["occlusion"] == 51).all()
    assert (found["mask 1"] == visualiser.palette(COUNT)[0]).all() and not found["mask 2"].any()
    assert (found["masks"] == found["mask 1"]).all()
    expected = ops.convert_to_numpy(outputs()["sparse_deformed"])[:, 3].repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(found["motion 3"], expected * 255, atol=0.51)


def test_deformation_moves_the_source():
    parts = outputs()
    shifted = ops.convert_to_numpy(parts["deformation"]).copy()
    shifted[..., 0] += 8 * 2 / 31  # fetched 8 pixels to the right
    found = visualiser.columns(ramps(), ramps(), {**parts, "deformation": ops.convert_to_tensor(shifted)})["deformed"]
    red = found[:, 4:-4, 4:20, 0].astype(int) - ramps()[:, 4:-4, 4:20, 0]
    assert np.abs(red - 8 * 4).max() <= 4


def test_one_picture_of_all_columns():
    images = {name: np.full((2, 6, 5, 3), value, "uint8") for name, value in (("a", 10), ("b", 20), ("c", 30))}
    images["a"][1] = 99
    found = visualiser.draw_columns(images)
    assert found.shape == (2 * 10, 3 * 9, 3)
    assert found[4, [4, 13, 22], 0].tolist() == [10, 20, 30] and found[14, 4, 0] == 99
    assert (found[[0, 1, 8, 9, 10, 19]] == 255).all() and (found[:, [0, 1, 7, 8, 9, 26]] == 255).all()


def test_clips_beside_each_other():
    source, driving = np.full((40, 60, 3), 10, "uint8"), np.full((3, 24, 24, 3), 20, "uint8")
    prediction = (np.full((16, 12, 3), 30 + index, "uint8") for index in range(3))
    found = list(visualiser.side_by_side(source, driving, prediction))
    assert [frame.shape for frame in found] == [(16, 36, 3)] * 3
    assert [frame[8, [5, 18, 30], 0].tolist() for frame in found] == [[10, 20, 30 + index] for index in range(3)]
    with pytest.raises(ValueError, match="longer"):
        list(visualiser.side_by_side(source, driving[:2], found))


def test_bad_pictures():
    with pytest.raises(ValueError, match=r"Received: shape \(16, 16\)"):
        visualiser.draw_keypoints(np.zeros((16, 16)), np.zeros((1, 2)))
