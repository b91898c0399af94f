"""Everything that a config says of a training reaches it, and makes a folder of its own."""

from helpers import runtime

runtime.quiet_start()

import dataclasses

import keras
import numpy as np
import pandas as pd
import pytest

from helpers import config as configs
from helpers import training
from helpers.lip_reading import runs, steps
from helpers.lip_reading.augment import Augmentation
from helpers.lip_reading.batches import Lips
from helpers.lip_reading.config import LipReadingConfig, LipSize

OTHERS = {  # another value of each field of TRAIN
    **{"model": "openav", "batch_size": 3, "lr": 0.02, "epoch": 7, "epoch_stop": 4, "mixup": 0.4, "label_smoothing": 0.2},
    **{"precision": "mixed_bfloat16", "seed": 9, "shift": 0.2, "scale": 0.3, "rotate": 5.0, "flip": 0.25, "brightness": 0.1},
    **{"contrast": 0.15, "time_shift": 3, "time_mask": 0.2, "frame_drop": 0.1, "tempo": 0.2},
}  # fmt: skip
MINI = configs.load(configs.find("lip_reading", "mini"), LipReadingConfig)
CONFIG = dataclasses.replace(
    MINI, **{**OTHERS, "model": "tiny", "precision": "float32"}, len_video=4, size_lips=LipSize(16, 16)
)


@pytest.fixture
def lips():
    """Ten clips of two words: six to train on, two to watch, two to test."""
    clips = np.broadcast_to(np.arange(10, dtype=np.uint8).reshape(-1, 1, 1, 1, 1), (10, 4, 16, 16, 1))
    table = pd.DataFrame({"number": np.arange(10) % 2, "split": ["train"] * 6 + ["validation"] * 2 + ["test"] * 2})
    return Lips(table.sample(frac=1, random_state=0), clips, ["about", "pony"], ["split"])


@pytest.mark.parametrize("field", runs.TRAIN)
def test_each_field_makes_a_training_of_its_own(field, tmp_path):
    other = dataclasses.replace(MINI, **{field: OTHERS[field]})
    assert steps.train.folder(other, tmp_path) != steps.train.folder(MINI, tmp_path)
    before = [step.folder(config, tmp_path) for config in (MINI, other) for step in steps.STEPS[:2]]
    assert before[:2] == before[2:], "and rebuilds no data"


def test_a_field_that_training_reads_is_declared():
    read = {"model", "lr", "channels_lips", "size_lips", "len_video"}
    declared = {name for step in steps.train.chain() for name in step.reads}
    assert read | set(runs.TRAIN) <= declared and set(OTHERS) == set(runs.TRAIN)


def test_batches_are_those_of_the_config(lips):
    batches = runs.batches_of(CONFIG, lips)
    assert (batches.seed, batches.batch_size, batches.mixup, batches.steps_per_epoch) == (9, 3, 0.4, 2)
    assert batches.augmentation == Augmentation(**{name: OTHERS[name] for name in vars(Augmentation())})
    assert np.unique(batches.targets).tolist() == pytest.approx([0.1, 0.9])
    assert sorted(batches.chosen) == sorted(np.flatnonzero(lips.table["split"] == "train"))
    assert runs.batches_of(dataclasses.replace(CONFIG, batch_size=64), lips).batch_size == 6


@pytest.mark.parametrize("steps_in_all, momentum", [(runs.FEW_STEPS - 1, 0.9), (runs.FEW_STEPS, 0.99)])
def test_the_network_is_that_of_the_config(steps_in_all, momentum, lips):
    settings = dataclasses.replace(CONFIG, model="conv3d_bigru", size_lips=LipSize(16, 16))
    genuine = runs.BUILDERS["conv3d_bigru"]
    small = {"filters": 2, "units": 2, "recurrent_layers": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(runs.BUILDERS, "conv3d_bigru", lambda *sizes, **options: genuine(*sizes, **small, **options))
        network = runs.build_network(settings, 2, steps=steps_in_all)
    assert network.input_shape == (None, 4, 16, 16, 1) and network.output_shape == (None, 2)
    assert network.get_layer("conv1_norm").momentum == momentum
    loss = runs.build_loss(settings)
    assert isinstance(loss, keras.losses.CategoricalCrossentropy) and loss.from_logits


def test_a_training_is_told_all(lips, tmp_path, monkeypatch):
    told = {}

    def fit(network, train_data, **options):
        told.update(options, first=next(iter(train_data(1))), network=network)
        return pd.DataFrame({"epoch": [1]})

    monkeypatch.setattr(training, "fit", fit)
    settings = dataclasses.replace(CONFIG, checkpoint_every=11, save_every=2)
    log = runs.train_one(settings, lips, "split", tmp_path, remote="remote")
    assert log["part"].tolist() == ["split"]
    names = ("run_dir", "epochs", "steps_per_epoch", "checkpoint_every", "save_every", "seed", "remote")
    assert [told[name] for name in names] == [tmp_path, 7, 2, 11, 2, 9, "remote"]
    assert told["callbacks"][0].patience == 4 and told["callbacks"][0].run_dir == tmp_path
    assert told["config"] == {name: getattr(settings, name) for name in runs.TRAIN} | {"words": ["about", "pony"]}
    for one, other in zip(told["first"], runs.batches_of(settings, lips).batch(1), strict=True):
        np.testing.assert_array_equal(one, other)
    optimizer = told["network"].optimizer
    assert isinstance(optimizer, keras.optimizers.Adam) and float(optimizer.learning_rate) == pytest.approx(0.02)
    watch = told["validation"]
    assert (
        watch.network is told["network"]
        and watch.rows.tolist() == np.flatnonzero(lips.table["split"] == "validation").tolist()
    )
    assert set(watch()) == {"validation_loss", "validation_accuracy"}


def test_what_is_watched_by_hand(lips):
    class Network:
        def predict_on_batch(self, clips):
            return np.log(np.tile([[0.2, 0.8]], (len(clips), 1))).astype("float32")

    found = runs.Watch(Network(), lips)()
    right = np.where(lips.labels[lips.rows("validation")] == 1, 0.8, 0.2)
    assert found["validation_accuracy"] == np.mean(right == 0.8)
    assert found["validation_loss"] == pytest.approx(-np.log(right).mean(), rel=1e-4)
