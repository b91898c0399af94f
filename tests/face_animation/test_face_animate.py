"""Animation: motion carried over as the original does, with whatever pictures and clips come in."""

from helpers import runtime

runtime.quiet_start()

import json

import cv2
import jax_twin
import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image

from helpers import video
from helpers.face_animation import animate, data, metrics, model
from helpers.face_animation.animate import transfer
from helpers.face_animation.mini import dataset

TINY = {"size": 64, "num_keypoints": 5, "scale": 0.5}
DETECTOR = {**TINY, "num_blocks": 3, "width": 8, "max_width": 64}
GENERATOR = {
    **TINY, "width": 16, "max_width": 64, "num_residuals": 1,
    "motion_width": 16, "motion_max_width": 64, "motion_blocks": 3,
}  # fmt: skip
GOLDEN = runtime.repo_root().parent / "shared" / "data" / "faces" / "first_order_motion_golden.json"


def shuffled(network, seed):
    """Weights of such sizes that every pixel depends on the keypoints: nothing at its start, nothing saturated."""
    rng = np.random.default_rng(seed)
    for variable in network.variables:
        noise, name = rng.normal(size=variable.shape), variable.name
        if len(variable.shape) == 4:
            noise *= np.sqrt((0.3 if "jacobian" in variable.path else 2) / np.prod(variable.shape[:3]))
        elif "variance" in name or "gamma" in name:
            noise = 1 + 0.2 * np.tanh(noise)
        else:
            noise = 0.1 * noise + (np.resize([1, 0, 0, 1], noise.shape) if "jacobian" in variable.path else 0)
        variable.assign(noise.astype("float32"))
    return network


@pytest.fixture(scope="module")
def networks():
    keras.utils.set_random_seed(1)
    return shuffled(model.build_keypoint_detector(**DETECTOR), 2), shuffled(model.build_generator(**GENERATOR), 3)


@pytest.fixture(scope="module")
def animator(networks):
    return animate.Animator(*networks, batch_size=3)


@pytest.fixture(scope="module")
def pair():
    return dataset.make_pair(0, 1, size=64, frames=7)


def points(frames, detector):
    found = detector(ops.convert_to_tensor(np.asarray(frames, "float32") / 255), training=False)
    return {name: ops.convert_to_numpy(part) for name, part in found.items()}


def by_hand(source, driving, networks, *, relative=True, adapt_scale=True, start=0):
    """The spec's steps, frame by frame and without anything kept."""
    detector, generator = networks
    still, initial = points(source[None], detector), points(driving[start][None], detector)
    frames = []
    for frame in driving:
        moving = points(frame[None], detector)
        if relative:
            areas = [cv2.contourArea(cv2.convexHull(part["value"][0])) for part in (still, initial)]
            scale = np.sqrt(areas[0] / areas[1]) if adapt_scale else 1
            value = (moving["value"] - initial["value"]) * scale + still["value"]
            jacobian = moving["jacobian"] @ np.linalg.inv(initial["jacobian"]) @ still["jacobian"]
            moving = {"value": value, "jacobian": jacobian}
        inputs = {"source": source[None] / 255}
        inputs |= {f"kp_source_{name}": part for name, part in still.items()}
        inputs |= {f"kp_driving_{name}": part for name, part in moving.items()}
        inputs = {name: ops.convert_to_tensor(np.asarray(part, "float32")) for name, part in inputs.items()}
        frames.append(ops.convert_to_numpy(generator(inputs, training=False)["prediction"])[0] * 255)
    return np.stack(frames)


def near(found, expected):
    assert found.dtype == np.uint8 and found.shape == expected.shape
    assert np.abs(found - expected).max() < 0.51  # rounding


@pytest.mark.parametrize("options", [{}, {"adapt_scale": False}, {"relative": False}, {"start": 4}])
def test_every_way_is_the_one_by_hand(pair, networks, animator, options):
    expected = by_hand(pair.source, pair.driving, networks, **options)
    near(animator.animate(pair.source, pair.driving, **options), expected)
    others = {"adapt_scale": True, "relative": True, "start": 0} | options
    plain = animator.animate(pair.source, pair.driving)
    assert options == {} or np.abs(plain - expected).max() > 1, others  # so the option does something
    assert np.abs(expected[1:] - expected[:-1]).max() > 1  # and frames differ


def test_animate_itself(pair, networks):
    near(animate.animate(pair.source, pair.driving[:2], *networks), by_hand(pair.source, pair.driving[:2], networks))


def test_a_reconstruction_is_absolute_from_frame_0(pair, networks, animator):
    expected = by_hand(pair.driving[0], pair.driving, networks, relative=False)
    near(animator.reconstruct(pair.driving), expected)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_batches_change_nothing(pair, networks, animator, batch_size):
    other = animate.Animator(*networks, batch_size=batch_size, jit_compile=False)
    expected = animator.animate(pair.source, pair.driving).astype(int)
    assert np.abs(other.animate(pair.source, pair.driving) - expected).max() <= 1


def test_animators_leave_the_networks_usable(pair, networks, tmp_path):
    detector, generator = networks
    animate.Animator(*networks)
    expected = by_hand(pair.source, pair.driving[:1], networks)
    generator.save(tmp_path / "generator.keras")
    again = keras.saving.load_model(tmp_path / "generator.keras")
    np.testing.assert_allclose(by_hand(pair.source, pair.driving[:1], (detector, again)), expected, atol=1e-3)


def test_new_weights_count_at_once(pair):
    keras.utils.set_random_seed(4)
    networks = shuffled(model.build_keypoint_detector(**DETECTOR), 5), shuffled(model.build_generator(**GENERATOR), 6)
    animator = animate.Animator(*networks, batch_size=2)
    old = animator.animate(pair.source, pair.driving[:2])
    for number, network in enumerate(networks):
        shuffled(network, 7 + number)
    expected = by_hand(pair.source, pair.driving[:2], networks)
    assert np.abs(old - expected).max() > 1
    near(animator.animate(pair.source, pair.driving[:2]), expected)


def test_relative_motion_is_the_original_s():
    """Numbers of the original in PyTorch, from its weights by a recipe; keypoints of the three pictures are in the same file."""
    from face_animation import test_face_model as recipe

    found = [{k: ops.convert_to_numpy(v) for k, v in recipe.keypoints(seed).items()} for seed in (1, 2, 3)]
    moved = transfer.relative_motion(*found)
    np.testing.assert_allclose(moved["value"][0, 0], [-0.261581, -0.157813], rtol=0, atol=1e-5)
    expected = [[1.022034, -0.117154], [-0.006547, 1.134810]]
    np.testing.assert_allclose(moved["jacobian"][0, 0], expected, rtol=0, atol=1e-5)
    if GOLDEN.is_file():
        golden = json.loads(GOLDEN.read_text(encoding="utf-8"))["model"]
        np.testing.assert_allclose(moved["value"][0], golden["kp_norm_value"], rtol=0, atol=1e-5)
        np.testing.assert_allclose(moved["jacobian"][0], golden["kp_norm_jac"], rtol=0, atol=1e-5)


def some_points(count=1, seed=0):
    rng = np.random.default_rng(seed)
    jacobian = np.eye(2) + rng.normal(0, 0.2, (count, 5, 2, 2))
    return {"value": rng.uniform(-0.7, 0.7, (count, 5, 2)).astype("float32"), "jacobian": jacobian.astype("float32")}


def test_no_motion_is_the_source():
    source, initial = some_points(seed=1), some_points(seed=2)
    moved = transfer.relative_motion(
        source, {name: np.repeat(part, 3, axis=0) for name, part in initial.items()}, initial
    )
    for name, part in moved.items():
        np.testing.assert_allclose(part, np.repeat(source[name], 3, axis=0), atol=1e-5)


def test_a_smaller_face_moves_less():
    initial, driving = some_points(seed=1), some_points(2, seed=2)
    source = {"value": initial["value"] / 2 + 0.1, "jacobian": initial["jacobian"]}
    for adapt_scale, factor in ((True, 0.5), (False, 1)):
        moved = transfer.relative_motion(source, driving, initial, adapt_scale=adapt_scale)["value"]
        expected = (driving["value"] - initial["value"]) * factor + source["value"]
        np.testing.assert_allclose(moved, expected, atol=1e-5)


@pytest.mark.parametrize("flat", ["source", "initial"])
def test_keypoints_on_a_line_have_no_scale(flat):
    parts = {"source": some_points(seed=1), "initial": some_points(seed=2)}
    parts[flat]["value"][..., 1] = 0.25
    driving = some_points(2, seed=3)
    moved = transfer.relative_motion(driving=driving, **parts)["value"]
    np.testing.assert_allclose(
        moved, driving["value"] - parts["initial"]["value"] + parts["source"]["value"], atol=1e-6
    )


def test_a_singular_jacobian_does_not_turn():
    source, driving, initial = some_points(seed=1), some_points(2, seed=2), some_points(seed=3)
    initial["jacobian"][0, 1] = [[1, 2], [2, 4]]
    moved = transfer.relative_motion(source, driving, initial)["jacobian"]
    np.testing.assert_allclose(moved[:, 1], np.repeat(source["jacobian"][:, 1], 2, axis=0), atol=1e-6)
    expected = driving["jacobian"][:, 0] @ np.linalg.inv(initial["jacobian"][0, 0]) @ source["jacobian"][0, 0]
    np.testing.assert_allclose(moved[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_the_best_frame_has_the_pose_wherever_and_however_large(pair, animator):
    driving = some_points(6, seed=4)["value"]
    assert transfer.best_frame(driving[3] * 0.4 + [0.3, -0.2], driving) == 3
    assert transfer.best_frame(np.zeros((5, 2)), driving) in range(6)  # no hull, no error
    found = animator.animate(pair.driving[5], pair.driving, start="best")
    assert (found == animator.animate(pair.driving[5], pair.driving, start=5)).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda image: cv2.cvtColor(image, cv2.COLOR_RGB2GRAY),
        lambda image: cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None],
        lambda image: np.dstack([image, np.full(image.shape[:2], 7, "uint8")]),
        lambda image: cv2.resize(image, (90, 120)),
    ],
)
def test_pictures_of_any_kind(pair, animator, change):
    source, driving = change(pair.source), [change(frame) for frame in pair.driving[:2]]

    def plain(image):
        image = image if image.ndim == 3 and image.shape[2] > 1 else np.dstack([image] * 3)
        return data.resize(np.ascontiguousarray(image[..., :3]), (64, 64))

    expected = animator.animate(plain(source), np.stack([plain(frame) for frame in driving]))
    for clip in (driving, iter(driving), np.stack(driving)):
        assert (animator.animate(source, clip) == expected).all()


@pytest.mark.parametrize("suffix, fps", [(".mp4", 12.0), (".avi", 30.0), ("", 25.0)])
def test_files(pair, animator, tmp_path, suffix, fps):
    source, driving, out = tmp_path / "source.png", tmp_path / f"driving{suffix}", tmp_path / "out" / "clip.mp4"
    cv2.imwrite(str(source), pair.source[..., ::-1])
    if suffix:
        video.write_video(driving, pair.driving, fps)
    else:
        driving.mkdir()
        for index, frame in enumerate(pair.driving):
            cv2.imwrite(str(driving / f"{index}.png"), frame[..., ::-1])
    assert animate.animate_file(source, driving, out, animator, beside=True) == len(pair.driving)
    found = np.stack(list(video.read_frames(out)))
    assert found.shape == (7, 64, 192, 3) and video.header_info(out)["fps"] == pytest.approx(fps)
    read = np.stack(list(video.read_frames(driving))) if suffix else data.read_clip(driving)
    expected = np.concatenate(
        [np.repeat(pair.source[None], 7, axis=0), read, animator.animate(pair.source, read)], axis=2
    )
    assert metrics.l1(found, expected).max() < 0.04  # the codec
    assert animate.animate_file(driving, driving, out, animator, relative=False) == 7
    assert metrics.l1(np.stack(list(video.read_frames(out))), animator.reconstruct(read)).max() < 0.04


def test_broken_weights_are_named(pair):
    detector, generator = model.build_keypoint_detector(**DETECTOR), model.build_generator(**GENERATOR)
    detector.get_layer("kp").bias.assign(np.full(5, np.nan, "float32"))
    with pytest.raises(ValueError, match="NaN"):
        animate.animate(pair.source, pair.driving[:1], detector, generator)


IMAGE = np.zeros((64, 64, 3), "uint8")


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda a: a.animate(IMAGE, np.zeros((0, 64, 64, 3), "uint8")), "at least one frame"),
        (lambda a: a.animate(IMAGE, iter(())), "at least one frame"),
        (lambda a: a.reconstruct(IMAGE[None][:0]), "at least one frame"),
        (lambda a: a.animate(IMAGE, IMAGE), r"array of shape \(64, 64, 3\); for one picture pass picture\[None\]"),
        (lambda a: a.animate(IMAGE, "clip.mp4"), "'clip.mp4'.* use animate.animate_file"),
        (lambda a: a.animate(IMAGE / 255, IMAGE[None]), "must be uint8 .* Received: float64"),
        (lambda a: a.animate(IMAGE, IMAGE[None, ..., None]), r"Received: uint8 of shape \(64, 64, 3, 1\)"),
        (lambda a: a.animate(IMAGE, IMAGE[None], start=1), "a frame from 0 to 0. Received: 1"),
        (lambda a: a.animate(IMAGE, IMAGE[None], start="last"), "'first', 'best' .* Received: 'last'"),
        (lambda a: a.animate(IMAGE, IMAGE[None], start=True), "Received: True"),
        (lambda a: a.keypoints([]), "at least one frame"),
    ],
)
def test_bad_input(animator, call, words):
    with pytest.raises(ValueError, match=words):
        call(animator)


def test_bad_networks(networks):
    other = model.build_keypoint_detector(**{**DETECTOR, "num_keypoints": 4})
    with pytest.raises(ValueError, match=r"one size and number of keypoints. Received: \(64, 64\) with 4"):
        animate.Animator(other, networks[1])


def test_bad_files(animator, tmp_path):
    text = tmp_path / "source.png"
    text.write_text("no picture")
    with pytest.raises(ValueError, match="it is a text"):
        animate.animate_file(text, text, tmp_path / "out.mp4", animator)
    with pytest.raises(FileNotFoundError):
        animate.animate_file(tmp_path / "gone.png", text, tmp_path / "out.mp4", animator)


@pytest.mark.parametrize("suffix", ["webp", "png"])
def test_a_source_picture_of_any_kind_stands_upright(pair, animator, tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(np.rot90(pair.source)).save(tmp_path / f"a.{suffix}", exif=exif, lossless=True)
    video.write_video(tmp_path / "driving.avi", pair.driving[:2])
    animate.animate_file(
        tmp_path / f"a.{suffix}", tmp_path / "driving.avi", tmp_path / "out.avi", animator, beside=True
    )
    assert np.abs(next(video.read_frames(tmp_path / "out.avi"))[:, :64].astype(int) - pair.source).mean() < 12


@jax_twin.needs_jax
def test_the_same_on_jax():
    names = ["options0", "leave_the_networks", "columns_of"]
    quick = "--xla_backend_optimization_level=0"  # half the time to compile
    said = jax_twin.run(__file__, ["face_animate", "face_visualiser"], names, XLA_FLAGS=quick)
    assert "\n3 passed" in said, said
