"""The configuration of lip reading: OpenAV's twelve keys, one by one and together, then ours."""

import dataclasses

import pytest

from helpers import config, runtime
from helpers.lip_reading.config import LipReadingConfig

SEED = {  # values as in the file that OpenAV ships
    "hide_metadata": "false",
    "hide_libs_vers": "false",
    "path_to_dataset": "/some/where/LRW_TEST",
    "len_video": "29",
    "size_lips": "{width: 112, height: 112}",
    "padding_lips": "true",
    "seed": "42",
    "batch_size": "8",
    "channels_lips": "3",
    "lr": "0.0001",
    "epoch": "100",
    "epoch_stop": "5",
}


def load(tmp_path, **changes):
    lines = [f"{key}: {value}" for key, value in {**SEED, **changes}.items() if value is not None]
    path = tmp_path / "openav.yaml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return config.load(path, LipReadingConfig)


def test_the_original_file_loads_unchanged(tmp_path):
    text = "size_lips:\n  width: 120\n  height: 100\n"
    found = load(tmp_path, size_lips=None, lr=f"0.0001\n{text}")
    assert (found.source, found.path_to_dataset, found.model) == ("local", "/some/where/LRW_TEST", "openav")
    assert found.size == (100, 120) and found.channels_lips == 3 and found.padding_lips is True
    required = {field.name for field in dataclasses.fields(found) if field.default is dataclasses.MISSING}
    assert required == set(SEED)


@pytest.mark.parametrize(
    "key, text, value",
    [
        ("lr", "1e-4", 1e-4), ("lr", "1", 1.0), ("batch_size", "1", 1), ("batch_size", "7", 7), ("epoch_stop", "0", 0),
        ("epoch_stop", "50", 50), ("len_video", "1", 1), ("len_video", "240", 240), ("epoch", "10000", 10000),
        ("channels_lips", "1", 1), ("seed", "0", 0), ("hide_metadata", "yes", True),
    ],
)  # fmt: skip
def test_limits_belong_to_what_is_allowed(tmp_path, key, text, value):
    found = getattr(load(tmp_path, **{key: text}), key)
    assert found == value and type(found) is type(value)


WRONG = [(key, None, "missing") for key in SEED] + [
    (key, text, words)
    for key, texts, words in [
        ("hide_metadata", ["1", "'no'", "null"], "true or false"),
        ("hide_libs_vers", ["0", "'yes'"], "true or false"),
        ("path_to_dataset", ["''", "'  '", "7", "yes", "[a]"], "text, at least 1"),
        ("len_video", ["0", "-1", "241", "29.0", "true", "'29'"], "an integer, at least 1, at most 240"),
        ("size_lips", ["112", "[112, 112]", "true"], "a group of keys"),
        ("padding_lips", ["1", "'true'"], "true or false"),
        ("seed", ["-1", "4.2", "true", "'42'"], "an integer, at least 0"),
        ("batch_size", ["0", "-2", "8.0", "true", "'8'"], "an integer, at least 1"),
        ("channels_lips", ["2", "0", "true", "3.0", "'1'"], "one of 1, 3"),
        ("lr", ["0", "-0.1", "true", "fast", ".inf"], "a number, above 0.0"),
        ("epoch", ["0", "10001", "true", "1.5"], "an integer, at least 1, at most 10000"),
        ("epoch_stop", ["-1", "51", "true", "5.0"], "an integer, at least 0, at most 50"),
    ]
    for text in texts
]


@pytest.mark.parametrize("key, text, words", WRONG)
def test_every_key_of_openav(tmp_path, key, text, words):
    with pytest.raises(ValueError, match=r"has 1 problem\(s\)") as caught:
        load(tmp_path, **{key: text})
    assert f"{key}: " in str(caught.value) and words in str(caught.value)


@pytest.mark.parametrize("text", ["0", "513", "-5", "true", "112.0", "'112'", "null"])
@pytest.mark.parametrize("side", ["width", "height"])
def test_sides_of_the_lip_picture(tmp_path, side, text):
    other = {"width": "height", "height": "width"}[side]
    with pytest.raises(
        ValueError, match=rf"size_lips\.{side}: received .* allowed: an integer, at least 1, at most 512"
    ):
        load(tmp_path, size_lips=f"{{{side}: {text}, {other}: 88}}")
    with pytest.raises(ValueError, match=rf"size_lips\.{side}: missing"):
        load(tmp_path, size_lips=f"{{{other}: 88}}")


def test_all_problems_of_all_keys_come_at_once(tmp_path):
    changes = {"hide_metadata": 1, "path_to_dataset": "''", "len_video": 0, "size_lips": "{width: 0, height: 999}"}
    changes |= {
        "padding_lips": 0,
        "seed": None,
        "batch_size": 0,
        "channels_lips": 2,
        "lr": 0,
        "epoch": 0,
        "epoch_stop": 51,
    }
    with pytest.raises(ValueError, match=r"has 13 problem\(s\)") as caught:
        load(tmp_path, **changes, epoc_stop=3)
    told = [*(set(changes) - {"size_lips"}), "size_lips.width", "size_lips.height", "did you mean epoch_stop"]
    assert all(key in str(caught.value) for key in told)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"lips": "fixed"}, ["window: missing", "LRW: [79, 115, 175, 211]"]),
        ({"lips": "fixed", "window": "[5, 5, 5, 9]"}, ["window: received [5, 5, 5, 9]"]),
        ({"window": "[1, 2, 3]"}, ["window", "four numbers"]),
        ({"source": "mini", "lips": "cropped"}, ["lips: received 'cropped' with source: mini"]),
        ({"source": "grid", "lips": "cropped"}, ["whole faces"]),
        ({"source": "grid", "grid_speakers": "[20, 21]"}, ["grid_speakers: received [20, 21]", "without 21"]),
        ({"source": "grid", "grid_speakers": "[3, 3]"}, ["every talker once"]),
        ({"source": "grid", "split_by": "given"}, ["split_by: received 'given' with source: grid"]),
        ({"split_by": "given", "folds": 5}, ["folds: received 5"]),
        ({"validation_share": 0.5, "test_share": 0.5}, ["test_share", "below 1 together"]),
        ({"grid_slot": "color"}, ["did you mean colour"]),
        ({"layout": "speaker"}, ["layout", "split/speaker/class"]),
        ({"flip": 1.5}, ["flip", "at most 1.0"]),
        ({"time_shift": "two"}, ["time_shift", "an integer"]),
        ({"model": "resnet"}, ["openav, conv3d_bigru, tiny"]),
    ],
)
def test_our_keys(tmp_path, changes, words):
    with pytest.raises(ValueError) as caught:
        load(tmp_path, **changes)
    assert all(word in str(caught.value) for word in words)


def test_grid_knows_its_window_itself(tmp_path):
    assert load(tmp_path, source="grid", lips="fixed").window is None


@pytest.mark.parametrize("name", ["mini", "t4", "full"])
def test_our_files_hold_the_twelve_keys(name):
    path = runtime.repo_root() / "notebooks/lip_reading" / f"{name}.yaml"
    keys = [line.split(":")[0] for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert set(SEED) <= set(keys)
    settings = config.load(path, LipReadingConfig)
    if name == "full":
        assert (settings.len_video, settings.size, settings.lr, settings.batch_size) == (29, (112, 112), 1e-4, 8)
        assert (settings.epoch, settings.epoch_stop, len(settings.grid_speakers)) == (100, 5, 33)
