"""Scores, counts and rates of face_animation against numbers of the original and what scikit-learn and loops give."""

from helpers import runtime

runtime.quiet_start()

import dataclasses
import types

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error

from helpers import video
from helpers.face_animation import animate, model, runs
from helpers.face_animation.config import FaceAnimationConfig
from helpers.face_animation.evaluation import scoring

CONFIG = FaceAnimationConfig(source="mini", n_groups=1, size=32, network="tiny64", perceptual="stand_in", seed=5)


def frames(seed, count=4, size=16):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


# --- scores ---


def test_scores_leave_out_the_frame_that_was_given():
    clip, drawn = frames(0), frames(1)
    found = scoring.score_clip(clip, drawn)
    differences = (drawn[1:].astype(float) - clip[1:]) / 255
    assert found["l1"] == pytest.approx(np.abs(differences).mean())
    assert found["psnr"] == pytest.approx(np.mean([10 * np.log10(1 / np.square(d).mean()) for d in differences]))
    drawn[1:] = clip[1:]
    assert scoring.score_clip(clip, drawn) == {"l1": 0, "psnr": np.inf, "ssim": pytest.approx(1), "sharpness": 1}


def test_every_frame_weighs_the_same():
    rng = np.random.default_rng(0)
    single = {name: {"long": rng.random(9), "short": rng.random(2)} for name in ("b", "a")}
    rows = [
        {"drawer": name, "clip": clip, "frames": len(values), **{s: i + values.mean() for i, s in enumerate(scoring.SCORES)}}
        for name, clips in single.items()
        for clip, values in clips.items()
    ]  # fmt: skip
    found = scoring.summarise(pd.DataFrame(rows))
    assert list(found) == ["drawer", "l1", "psnr", "ssim", "sharpness"] and found["drawer"].tolist() == ["b", "a"]
    for row, clips in zip(found.to_dict("records"), single.values(), strict=True):
        mean = np.concatenate(list(clips.values())).mean()
        assert [row["l1"], row["psnr"], row["ssim"]] == pytest.approx([mean, 1 + mean, 2 + mean])


class Finder:
    """An animator whose keypoints are some numbers of the frames' own, and which draws frames of one grey."""

    def __init__(self, grey=0):
        self.grey = grey

    def keypoints(self, clip):
        return {"value": clip[:, :3, 0, :2] / 127.5 - 1}

    def reconstruct(self, clip):
        return np.full_like(clip, self.grey)

    def animate(self, picture, clip, **options):
        self.options = options
        return np.full_like(clip, self.grey)


def test_points_are_followed_as_scikit_learn_would():
    rng = np.random.default_rng(0)
    parts = [[(frames(seed, count), rng.uniform(0, 64, (count, 4, 2))) for seed, count in part]
             for part in ([(1, 9), (2, 30)], [(3, 5), (4, 2)])]  # fmt: skip
    found = scoring.follow_points({"still": None, "moving": Finder()}, *parts)
    assert list(found) == ["drawer", "keypoint_error"] and found["drawer"].tolist() == ["still", "moving"]
    known, wanted = (np.concatenate([points for _, points in part]).reshape(-1, 8) for part in parts)
    seen, new = (np.concatenate([f[:, :3, 0, :2] for f, _ in part]).reshape(-1, 6) / 127.5 - 1 for part in parts)
    guess = Ridge(alpha=39e-4).fit(seen, known).predict(new)
    expected = [mean_absolute_error(wanted, np.tile(known.mean(axis=0), (7, 1))), mean_absolute_error(wanted, guess)]
    assert found["keypoint_error"].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("count, numbers", [(None, range(9)), (3, [0, 4, 8]), (4, [0, 3, 5, 8]), (99, range(9))])
def test_frames_are_evenly_spaced(clips, tmp_path, count, numbers):
    found, table = clips
    (_, (nine, places), _) = scoring.read_clips(table, tmp_path, frames=count)
    assert places.tolist() == list(numbers) and (nine == found["9.mp4"][list(numbers)]).all()


def test_every_drawer_gets_every_clip(clips, tmp_path):
    found, table = clips
    rows = scoring.score_all({scoring.COPY: None, "black": Finder(0)}, table, tmp_path, frames=3)
    assert rows["clip"].tolist() == ["2.mp4"] * 2 + ["9.mp4"] * 2 + ["5.mp4"] * 2
    assert rows["frames"].tolist() == [1, 1, 2, 2, 2, 2]
    copy, black = rows.iloc[2]["l1"], rows.iloc[3]["l1"]
    clip = found["9.mp4"][[0, 4, 8]] / 255
    assert [copy, black] == pytest.approx([np.abs(clip[1:] - clip[0]).mean(), clip[1:].mean()])


def test_columns_of_an_animation_and_one_that_is_there_is_kept(clips, tmp_path):
    _, table = clips
    pairs = pd.DataFrame({"source": ["2.mp4", "9.mp4"], "driving": ["5.mp4", "2.mp4"]})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "001.mp4").write_bytes(b"of the run that was killed")
    dark, light = Finder(40), Finder(200)
    options = {"relative": False, "adapt_scale": False, "start": "first"}
    made = scoring.animate_pairs(pairs, table, tmp_path, {"a": dark, "b": light}, tmp_path / "out", **options)
    assert made.to_dict("list") == {**pairs.to_dict("list"), "file": ["000.mp4", "001.mp4"]}
    assert (tmp_path / "out" / "001.mp4").read_bytes() == b"of the run that was killed"
    assert dark.options == options
    found = np.stack(list(video.read_frames(tmp_path / "out" / "000.mp4")))
    assert found.shape == (5, 16, 64, 3)
    assert [found[:, :, left + 4 : left + 12].mean() for left in (32, 48)] == pytest.approx([40, 200], abs=8)


# --- sizes of the original, 256 x 256 ---


@pytest.mark.parametrize(
    "variant, products, parameters",
    [("fomm", 1.277, 14_215_368), ("fomm_6b", 1.428, 37_814_472), ("unet", 2.221, 29_931_624), ("unet3plus", 3.290, 14_578_955)],
)  # fmt: skip
def test_products_and_parameters_of_the_detectors(variant, products, parameters):
    network = model.build_keypoint_detector(variant)
    assert scoring.count_products(network) / 1e9 == pytest.approx(products, abs=5.1e-4)
    assert scoring.count_parameters(network) == parameters


def test_products_and_parameters_of_the_generator():
    network = runs.new_generator(dataclasses.replace(CONFIG, size=256, network="vox256"))
    assert scoring.count_products(network) / 1e9 == pytest.approx(53.64, abs=5.1e-3)
    assert scoring.count_parameters(network) == 45_575_391


def test_a_measure_says_what_is_what(clips, tmp_path, monkeypatch):
    films, table = clips
    monkeypatch.setattr(scoring, "time_frames", lambda animator, clip: 12.5 + (clip == films["2.mp4"]).all())
    detector, generator = runs.new_detector(CONFIG, "unet"), runs.new_generator(CONFIG)
    animator = types.SimpleNamespace(kp_detector=detector, generator=generator)
    found = scoring.measure_all({"unet": animator}, table, tmp_path)
    assert found.to_numpy().tolist() == [[
        "unet", scoring.count_parameters(detector), scoring.count_products(detector) / 1e6,
        scoring.count_parameters(generator), scoring.count_products(generator) / 1e6, 13.5,
    ]]  # fmt: skip


# --- comparison and view ---


def test_the_view_shows_what_the_animator_draws():
    animator = animate.Animator(*runs.load_networks(CONFIG, "fomm"), batch_size=4)
    clip = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), np.uint8)
    views = scoring.look_inside(animator, np.repeat(clip[:1], 3, axis=0), clip)
    np.testing.assert_allclose(views["prediction"].astype(int), animator.reconstruct(clip), atol=1)
    assert views["deformed"].shape == clip.shape and len(views["masks"]) == 3
