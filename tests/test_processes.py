"""A whole training step on several processes. As a script, one of them (or alone): FOLDER [KILL]."""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
JAX = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}


def main(folder: str, kill_at: str = "") -> None:
    """Do the steps as two cells of a notebook would, and print what came of the last; with KILL end at that step."""
    from helpers import runtime

    if os.environ.get("COURSE_PROCESSES"):
        from helpers.training import devices

        devices.join()
    runtime.quiet_start()
    import keras

    from helpers import training, workspace
    from helpers.circulant_video import runs, steps
    from helpers.circulant_video.config import CirculantVideoConfig
    from helpers.config import find, load

    config = load(find("circulant_video", "mini"), CirculantVideoConfig)
    config = replace(config, experiments=("diagonal",), seeds=(0,), epochs=2, save_every=1, checkpoint_every=10)
    if kill_at:
        ends = lambda batch, logs: os.kill(os.getpid(), signal.SIGKILL) if batch == int(kill_at) else None  # noqa: E731
        fit = training.fit
        training.fit = lambda *a, **o: fit(*a, **o, callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=ends)])
    workspace.ensure(steps.STEPS, "split", config, Path(folder))
    network = runs.build_network(config, runs.experiments.run_names(config.experiments, features=2)[0])
    batch = [np.zeros((2, *(side or 4 for side in part.shape[1:])), part.dtype) for part in network.inputs]
    network.predict_on_batch(batch)  # a cell computes alone, also where the processes are joined
    result = steps.STEPS[3](config, Path(folder))
    again = steps.STEPS[3](config, Path(folder))
    print(
        json.dumps(
            [
                again.made == result.made,
                result.table("curves").drop(columns=["steps_per_second", "hours"]).to_dict("list"),
            ]
        )
    )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(*sys.argv[1:])
