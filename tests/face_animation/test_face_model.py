"""The networks of face_animation against numbers that the original computed in PyTorch, by its own names of the weights.

The reference: the original modules in eval mode, torch 2.13 on a CPU in float32, configuration "vox-adv-256", weights and images
by the recipes of `filled` and `image`. Parameter counts are those of the original modules too.
"""

from helpers import runtime

runtime.quiet_start()

import functools
import json
import zlib

import cv2
import keras
import numpy as np
import pytest
from keras import ops
from scipy import special

from helpers.face_animation import layers, model
from helpers.face_animation.model import playing

GOLDEN = runtime.repo_root().parent / "shared" / "data" / "faces" / "first_order_motion_golden.json"
TINY = {"size": 64, "num_keypoints": 5}
TINY_DETECTOR = {**TINY, "num_blocks": 3, "width": 8, "max_width": 64, "scale": 0.5}
TINY_GENERATOR = {
    **TINY, "width": 16, "max_width": 64, "num_residuals": 2,
    "motion_width": 16, "motion_max_width": 64, "motion_blocks": 3, "scale": 0.5,
}  # fmt: skip
TINY_DISCRIMINATOR = {**TINY, "width": 8, "max_width": 64, "num_blocks": 3}
SMALL = {"size": 128, "num_keypoints": 10}
SMALL_DETECTOR = {**SMALL, "num_blocks": 4, "width": 16, "max_width": 256, "scale": 0.5}
SMALL_GENERATOR = {
    **SMALL, "width": 32, "max_width": 256, "num_residuals": 4,
    "motion_width": 32, "motion_max_width": 256, "motion_blocks": 4, "scale": 0.5,
}  # fmt: skip
SMALL_DISCRIMINATOR = {**SMALL, "width": 16, "max_width": 256, "num_blocks": 4}


def blocks(prefix, channels, size=3):
    """Torch keys and shapes of blocks (out, in): a convolution and a norm each."""
    keys = {}
    for i, (filters, inputs) in enumerate(channels):
        keys |= convolution(f"{prefix}.{i}.conv", filters, inputs, size) | batch_norm(f"{prefix}.{i}.norm", filters)
    return keys


def convolution(name, filters, inputs, size):
    return {f"{name}.weight": (filters, inputs, size, size), f"{name}.bias": (filters,)}


def batch_norm(name, filters):
    return {f"{name}.{part}": (filters,) for part in ("weight", "bias", "running_mean", "running_var")}


@functools.cache
def detector_keys():
    keys = blocks("predictor.encoder.down_blocks", [(64, 3), (128, 64), (256, 128), (512, 256), (1024, 512)]) | blocks(
        "predictor.decoder.up_blocks", [(512, 1024), (256, 1024), (128, 512), (64, 256), (32, 128)]
    )
    return keys | convolution("kp", 10, 35, 7) | convolution("jacobian", 40, 35, 7)


@functools.cache
def generator_keys():
    motion = "dense_motion_network"
    down = [(128, 44), (256, 128), (512, 256), (1024, 512), (1024, 1024)]
    up = [(1024, 1024), (512, 2048), (256, 1024), (128, 512), (64, 256)]
    keys = blocks(f"{motion}.hourglass.encoder.down_blocks", down) | blocks(f"{motion}.hourglass.decoder.up_blocks", up)
    keys |= convolution(f"{motion}.mask", 11, 108, 7) | convolution(f"{motion}.occlusion", 1, 108, 7)
    keys |= convolution("first.conv", 64, 3, 7) | batch_norm("first.norm", 64)
    keys |= blocks("down_blocks", [(128, 64), (256, 128)]) | blocks("up_blocks", [(128, 256), (64, 128)])
    for i in range(6):
        for k in (1, 2):
            name = f"bottleneck.r{i}"
            keys |= convolution(f"{name}.conv{k}", 256, 256, 3) | batch_norm(f"{name}.norm{k}", 256)
    return keys | convolution("final", 3, 64, 7)


@functools.cache
def discriminator_keys():
    keys = convolution("discs.1.conv", 1, 512, 1)
    for i, (filters, inputs) in enumerate([(64, 13), (128, 64), (256, 128), (512, 256)]):
        keys |= convolution(f"discs.1.down_blocks.{i}.conv", filters, inputs, 4)
        if i:
            keys |= {f"discs.1.down_blocks.{i}.norm.{part}": (filters,) for part in ("weight", "bias")}
    return keys


def value(key, shape):
    """The weight of a torch key: drawn from a generator seeded by the key's CRC."""
    rng = np.random.RandomState(zlib.crc32(key.encode()) & 0xFFFFFFFF)
    if key.endswith("running_mean"):
        return 0.1 * rng.standard_normal(shape)
    if key.endswith("running_var"):
        return 1 + 0.5 * rng.random_sample(shape)
    if key.endswith("bias"):
        return 0.05 * rng.standard_normal(shape) + (np.resize([1, 0, 0, 1], shape) if key == "jacobian.bias" else 0)
    if len(shape) == 1:
        return 1 + 0.1 * rng.standard_normal(shape)
    gain = 0.3 if key == "jacobian.weight" else 2.0
    return np.sqrt(gain / np.prod(shape[1:])) * rng.standard_normal(shape)


PARTS = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def filled(network, keys):
    """`network` with the weights of the recipe, put in by name; every weight is given exactly once."""
    given = set()
    for key, shape in keys.items():
        name, _, part = key.rpartition(".")
        layer = network.get_layer(name.replace(".", "_"))
        found = value(key, shape)
        if isinstance(layer, keras.layers.Conv2D):
            variable = layer.kernel if part == "weight" else layer.bias
            found = found.transpose(2, 3, 1, 0) if part == "weight" else found
        else:
            variable = getattr(layer, PARTS[part])
        variable.assign(found.astype("float32"))
        given.add(variable.path)
    assert given == {variable.path for variable in network.variables}
    return network


def image(seed):
    """(1, 256, 256, 3) float32."""
    y, x, c = np.meshgrid(np.arange(256.0), np.arange(256.0), np.arange(3.0), indexing="ij")
    waves = 0.25 * np.sin(2 * np.pi * ((c + 1) * x / 256 + seed * y / 256) + seed)
    waves += 0.25 * np.cos(2 * np.pi * (seed + 1) * x * y / 256**2 + c)
    return (0.5 + waves).astype("float32")[None]


@functools.cache
def detector():
    return filled(model.build_keypoint_detector(), detector_keys())


@functools.cache
def keypoints(seed):
    return detector()(image(seed), training=False)


@functools.cache
def generator(align_corners):
    network = model.build_generator(align_corners=align_corners)
    if align_corners:
        return filled(network, generator_keys())
    network.set_weights(generator(True).get_weights())
    return network


def generator_inputs():
    inputs = {"source": ops.convert_to_tensor(image(1))}
    for who, seed in (("source", 1), ("driving", 2)):
        inputs |= {f"kp_{who}_{part}": keypoints(seed)[part] for part in ("value", "jacobian")}
    return inputs


@functools.cache
def generated(align_corners):
    found = generator(align_corners)(generator_inputs(), training=False)
    return {name: ops.convert_to_numpy(part) for name, part in found.items()}


def close(found, expected, tolerance=1e-4):
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=0, atol=tolerance)


def golden():
    if not GOLDEN.is_file():
        pytest.skip(f"{GOLDEN.name} is not here")
    return json.loads(GOLDEN.read_text(encoding="utf-8"))["model"]


def test_the_recipe_itself():
    key = "predictor.encoder.down_blocks.0.conv.weight"
    close(value(key, (64, 3, 3, 3)).flat[:3], [0.124765, 0.004655, -0.299910], 1e-6)
    close(image(1)[0, 10, 20], [0.996400, 0.824961, 0.490070], 1e-6)


def test_keypoints_are_the_original_s():
    inside = keras.Model(
        detector().input, [detector().get_layer("down").output, detector().get_layer("kp").input], name="inside"
    )
    small, features = (ops.convert_to_numpy(part) for part in inside(image(1), training=False))
    assert small.shape == (1, 64, 64, 3) and features.shape == (1, 64, 64, 35)
    close(small[0, 0, 0], [0.387069, 0.342034, 0.247156])
    assert small.sum(dtype="float64") == pytest.approx(5769.2576, abs=1e-2)
    close([features.mean(), features.std()], [0.266343, 0.360504])
    close(keypoints(1)["value"][0, :3], [[-0.319339, -0.032686], [0.709736, 0.048722], [0.271806, 0.293804]])
    close(keypoints(2)["value"][0, 0], [-0.424273, -0.007860])
    close(keypoints(2)["jacobian"][0, 0], [[1.031923, -0.144387], [-0.019018, 1.141526]])


def test_all_keypoints_are_the_original_s():
    expected = golden()
    for seed, name in ((1, "src"), (2, "drv"), (3, "ini")):
        close(keypoints(seed)["value"][0], expected[f"kp_{name}_value"])
    for seed, name in ((1, "src"), (2, "drv")):
        close(keypoints(seed)["jacobian"][0], expected[f"kp_{name}_jac"])


@pytest.mark.parametrize(
    "align_corners, place, statistics, pixel",
    [
        (False, [0.366013, -0.406283], [0.606104, 0.224392], [0.344183, 0.824695, 0.548100]),
        (True, [0.366156, -0.406329], [0.605846, 0.225635], [0.344807, 0.824278, 0.543038]),
    ],
)
def test_the_generator_is_the_original_s(align_corners, place, statistics, pixel):
    found = generated(align_corners)
    shapes = {
        "prediction": (1, 256, 256, 3), "occlusion": (1, 64, 64, 1), "mask": (1, 64, 64, 11),
        "deformation": (1, 64, 64, 2), "sparse_deformed": (1, 11, 64, 64, 3),
    }  # fmt: skip
    assert {name: part.shape for name, part in found.items()} == shapes
    close(found["deformation"][0, 21, 42], place)
    close([found["prediction"].mean(), found["prediction"].std()], statistics)
    close(found["prediction"][0, 85, 85], pixel)


@pytest.mark.parametrize("align_corners", [False, True])
def test_all_of_the_generator_is_the_original_s(align_corners):
    expected, found = golden()[f"gen_align_corners_{align_corners}"], generated(align_corners)
    close(found["deformation"][0, ::21, ::21], expected["deformation_[0,::21,::21]"])
    close(found["occlusion"][0, ::21, ::21, 0], expected["occlusion_[0,0,::21,::21]"])
    close(found["mask"][0, 32, 32], expected["mask_[0,:,32,32]"])
    close(found["prediction"][0, ::85, ::85].transpose(2, 0, 1), expected["pred_[0,:,::85,::85]"])
    close(found["sparse_deformed"][0, :, 40, 20], expected["sparse_deformed_[0,:,:,40,20]"])
    deformed = ops.convert_to_numpy(layers.WarpFeatures(align_corners)(image(1), found["deformation"]))
    close(deformed[0, ::85, ::85].transpose(2, 0, 1), expected["deformed_[0,:,::85,::85]"])
    close(deformed.mean(), expected["deformed_mean"])


def test_the_discriminator_is_the_original_s():
    network = filled(model.build_discriminator(), discriminator_keys())
    points = keypoints(2)["value"]
    found = network({"image": ops.convert_to_tensor(image(2)), "kp_value": points}, training=False)
    assert [part.shape[1:] for part in found["features"][0]] == [
        (126, 126, 64),
        (61, 61, 128),
        (29, 29, 256),
        (26, 26, 512),
    ]
    means = [np.abs(ops.convert_to_numpy(part)).mean() for part in found["features"][0]]
    close(means, [0.173035, 0.438498, 0.423960, 0.444219])
    prediction = ops.convert_to_numpy(found["prediction"][0])
    assert prediction.shape == (1, 26, 26, 1)
    close(prediction.mean(), -0.023537)
    close(prediction[0, ::5, ::5, 0], golden()["disc_pred_[0,0,::5,::5]"])


def trainable(network):
    return sum(int(np.prod(variable.shape)) for variable in network.trainable_variables)


@pytest.mark.parametrize(
    "variant, parameters, of_predictor, maps",
    [
        ("fomm", 14_215_368, 14_129_568, 58),
        ("fomm_6b", 37_814_472, 37_728_672, 58),
        ("unet", 29_931_624, 29_845_824, 58),
        ("unet3plus", 14_578_955, 14_493_155, 26),
    ],
)
def test_variants_have_the_original_s_sizes(variant, parameters, of_predictor, maps):
    network = model.build_keypoint_detector(variant)
    heads = sum(network.get_layer(name).count_params() for name in ("kp", "jacobian"))
    assert (trainable(network), trainable(network) - heads) == (parameters, of_predictor)
    assert network.get_layer("kp").output.shape == (None, maps, maps, 10)
    if variant == "fomm":
        assert network.count_params() == 14_221_320
    assert network.output["value"].shape == (None, 10, 2) and network.output["jacobian"].shape == (None, 10, 2, 2)


@pytest.mark.parametrize(
    "network, parameters",
    [
        (lambda: generator(True), 45_575_391),
        (model.build_discriminator, 2_769_089),
        (lambda: model.build_discriminator(use_keypoints=False, spectral_norm=True), 2_758_849),
        (lambda: model.build_keypoint_detector(**TINY_DETECTOR), 67_428),
        (lambda: model.build_generator(**TINY_GENERATOR), 359_186),
        (lambda: model.build_discriminator(**TINY_DISCRIMINATOR), 43_377),
        (lambda: model.build_keypoint_detector(**SMALL_DETECTOR), 925_144),
        (lambda: model.build_generator(**SMALL_GENERATOR), 3_773_439),
        (lambda: model.build_discriminator(**SMALL_DISCRIMINATOR), 696_417),
    ],
)
def test_parameter_counts(network, parameters):
    assert trainable(network()) == parameters


def test_all_weights_of_the_generator_count():
    assert generator(True).count_params() == 45_592_671
    assert len(generator_keys()) == len(generator(True).variables) == 168
    assert len(detector_keys()) == len(detector().variables) == 64


def test_a_cached_source_changes_nothing():
    network = generator(True)
    inputs = generator_inputs()
    parts = playing.build_source_encoder(network)(inputs.pop("source"), training=False)
    driver = playing.build_driver(network)
    assert not {layer.name for layer in driver.layers} & {
        "first_conv",
        "down_blocks_1_conv",
        "dense_motion_network_down",
    }
    found = driver({**parts, **inputs}, training=False)
    for name, expected in generated(True).items():
        close(found[name], expected, 1e-6)


@pytest.fixture(scope="module", params=[False, True], ids=["paper", "skip"])
def tiny(request):
    keras.utils.set_random_seed(3)
    return model.build_generator(**TINY_GENERATOR, skip=request.param)


def tiny_inputs(frames=3, sources=3, size=(64, 64)):
    rng = np.random.default_rng(4)
    inputs = {"source": rng.random((sources, *size, 3))}
    for who, count in (("source", sources), ("driving", frames)):
        inputs[f"kp_{who}_value"] = rng.uniform(-0.7, 0.7, (count, 5, 2))
        inputs[f"kp_{who}_jacobian"] = np.eye(2) + rng.normal(0, 0.2, (count, 5, 2, 2))
    return {name: ops.convert_to_tensor(part.astype("float32")) for name, part in inputs.items()}


def test_one_source_for_a_batch_of_driving_frames(tiny):
    inputs = tiny_inputs(sources=1)
    parts = playing.build_source_encoder(tiny)(inputs["source"], training=False)
    rest = {name: part for name, part in inputs.items() if name != "source"}
    found = playing.build_driver(tiny)({**parts, **rest}, training=False)
    repeated = {name: part if "driving" in name else ops.repeat(part, 3, axis=0) for name, part in inputs.items()}
    for name, expected in tiny(repeated, training=False).items():
        close(found[name], ops.convert_to_numpy(expected), 1e-6)


def test_a_skip_blends_the_warped_source_with_what_is_drawn():
    """OpenCV warps the source, mirrored at its border, by the deformation that it has enlarged itself."""
    keras.utils.set_random_seed(3)
    network = model.build_generator(**TINY_GENERATOR, skip=True)
    inputs = tiny_inputs()
    found = {name: ops.convert_to_numpy(part) for name, part in network(inputs, training=False).items()}
    for i, source in enumerate(ops.convert_to_numpy(inputs["source"])):
        places = (cv2.resize(found["deformation"][i], (64, 64)) + 1) * 31.5
        warped = cv2.remap(source, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        near = np.abs(places - 31.5).max(axis=-1) < 90  # OpenCV mirrors once, and counts in 1/32 of a pixel
        assert near.mean() > 0.9 and np.abs(found["warped"][i] - warped)[near].max() < 0.05
    blended = found["keep"] * found["warped"] + (1 - found["keep"]) * found["drawn"]
    close(found["prediction"], blended, 1e-6)
    assert 0.7 < found["keep"].mean() < 0.95  # a bias of 2: gradients go through sharp pixels from the first step


def test_the_paper_generator_has_no_more_layers_than_before():
    names = {layer.name for layer in model.build_generator(**TINY_GENERATOR).layers}
    added = {layer.name for layer in model.build_generator(**TINY_GENERATOR, skip=True).layers} - names
    assert added == {"warp_source", "final_concat", "drawn", "keep", "keep_share"}


def test_singular_jacobians_give_finite_pictures(tiny):
    inputs = tiny_inputs()
    inputs["kp_driving_jacobian"] = ops.zeros_like(inputs["kp_driving_jacobian"])
    for part in tiny(inputs, training=False).values():
        assert np.isfinite(ops.convert_to_numpy(part)).all()


def test_keypoints_of_any_shape_of_image():
    options = {**TINY_DETECTOR, "size": (64, 96)}
    network = model.build_keypoint_detector("unet3plus", **options)
    images = np.random.default_rng(5).random((2, 64, 96, 3), dtype="float32")
    logits = keras.Model(network.input, network.get_layer("kp").output)(images, training=False)
    maps = special.softmax(ops.convert_to_numpy(logits) / 0.1, axis=(1, 2))
    assert maps.shape == (2, 10, 18, 5)
    close(maps.sum((1, 2)), np.ones((2, 5)), 1e-5)
    found = network(images, training=False)
    x = np.einsum("bhwk,w->bk", maps, np.linspace(-1, 1, 18))
    y = np.einsum("bhwk,h->bk", maps, np.linspace(-1, 1, 10))
    close(found["value"], np.stack([x, y], axis=-1), 1e-5)
    close(found["jacobian"], np.broadcast_to(np.eye(2), (2, 5, 2, 2)), 1e-5)  # untrained: unit matrices


def test_a_discriminator_per_scale():
    network = model.build_discriminator(**TINY_DISCRIMINATOR, scales=(1.0, 0.5))
    assert [part.shape[1] for part in network.output["prediction"]] == [10, 2]
    assert [len(part) for part in network.output["features"]] == [3, 3]
    assert network.get_layer("discs_0-5_down_blocks_0_conv").output.shape[1:] == (29, 29, 16)


@pytest.mark.parametrize(
    "build, options, words",
    [
        (model.build_keypoint_detector, {"variant": "unet4"}, "variant must be one of fomm, fomm_6b, unet, unet3plus"),
        (model.build_keypoint_detector, {"size": 200}, "size must be a multiple of 128"),
        (model.build_keypoint_detector, {"variant": "fomm_6b", "size": 128}, "size must be a multiple of 256"),
        (model.build_keypoint_detector, {"size": (256, 250)}, r"Received: size=\(256, 250\)"),
        (model.build_generator, {"size": 100}, "size must be a multiple of 128"),
        (
            model.build_keypoint_detector,
            {"size": 16, "scale": 0.5, "num_blocks": 2, "variant": "unet3plus"},
            "7 pixels",
        ),
    ],
)
def test_bad_sizes(build, options, words):
    with pytest.raises(ValueError, match=words):
        build(**options)


def test_one_step_of_training_in_half_precision_moves_every_weight():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        keras.utils.set_random_seed(6)
        network = model.build_generator(**{**TINY_GENERATOR, "num_residuals": 1, "motion_blocks": 2})
    finally:
        keras.config.set_dtype_policy(before)
    assert {part.dtype for part in network.output.values()} == {"float32"}
    assert network.get_layer("final").compute_dtype == "bfloat16"
    inputs = tiny_inputs()
    old = [ops.convert_to_numpy(variable) for variable in network.trainable_variables]
    network.compile("adam", loss={"prediction": "mae"})
    network.fit(inputs, {"prediction": inputs["source"]}, epochs=1, batch_size=3, shuffle=False, verbose=0)
    for variable, was in zip(network.trainable_variables, old, strict=True):
        now = ops.convert_to_numpy(variable)
        assert np.isfinite(now).all() and (now != was).any(), variable.path


def test_a_saved_generator_is_the_same(tiny, tmp_path):
    inputs = tiny_inputs()
    playing.build_driver(tiny)
    tiny.save(tmp_path / "generator.keras")
    loaded = keras.saving.load_model(tmp_path / "generator.keras")
    other = model.build_generator(**TINY_GENERATOR, skip="keep" in tiny.output)
    tiny.save_weights(tmp_path / "generator.weights.h5")
    other.load_weights(tmp_path / "generator.weights.h5")
    for name, expected in tiny(inputs, training=False).items():
        for again in (loaded, other):
            close(again(inputs, training=False)[name], ops.convert_to_numpy(expected), 1e-6)
