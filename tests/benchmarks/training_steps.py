"""Milliseconds per training step of mini, all five projects in one run: with oneDNN, without it, and on JAX's CPU backend.

    python tests/benchmarks/training_steps.py [--projects lip_reading ...] [--steps 10] [--threads 2] [--isa AVX2]

Each figure is the median of a process of its own, which takes the first network that step `train` would train, with its
own batches. `--isa AVX2` shows a CPU with AVX-512 what one without it does. Each ratio is against the first column of its row.
"""

import argparse
import importlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

WAYS = {
    "oneDNN": {"TF_ENABLE_ONEDNN_OPTS": "1"},
    "without": {"TF_ENABLE_ONEDNN_OPTS": "0"},
    "JAX": {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
}


class Measured(Exception):
    """Ends the training that was only to be timed."""


def measure(project: str, place: str, steps: int) -> None:
    """Print the milliseconds of a training step of a project's first network, and of making its batch."""
    from helpers import runtime

    runtime.quiet_start()
    from helpers import config, training, workspace

    steps_of = importlib.import_module(f"helpers.{project}.steps").STEPS
    settings = config.load(runtime.repo_root() / "notebooks" / project / "mini.yaml", config.schema_of(project))

    def time_it(model, train_data, **options):
        began = time.perf_counter()
        batches = list(itertools.islice(train_data(0), 4))
        batch_ms = (time.perf_counter() - began) * 250
        times = []
        for step in range(3 + steps):
            began = time.perf_counter()
            float(model.train_on_batch(*batches[step % 4], return_dict=True)["loss"])
            times.append(time.perf_counter() - began)
        print(json.dumps({"step": statistics.median(times[3:]) * 1e3, "first": times[0] * 1e3, "batch": batch_ms}))
        raise Measured

    training.fit = time_it
    workspace.ensure(steps_of, "split", settings, place)
    try:
        with tempfile.TemporaryDirectory() as folder:
            steps_of[3].body(settings, workspace.Workspace(Path(place)), Path(folder))
    except Measured:
        sys.stdout.flush()
        os.killpg(0, signal.SIGKILL)  # threads and workers that make batches ahead would hold the pipe open


def ask(project: str, place: str, steps: int, environment: dict[str, str]) -> dict[str, float]:
    """What `measure` prints in a process with this environment."""
    command = [sys.executable, __file__, "--one", project, "--place", place, "--steps", str(steps)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, start_new_session=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise RuntimeError(f"{project} was not measured: {done.stderr[-2000:]}")
    return json.loads(lines[-1])


def main() -> None:
    """Measure every project in every way, and print the table."""
    from helpers.course.notebooks import PROJECTS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--projects", nargs="*", default=PROJECTS)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--isa", help="most that oneDNN and XLA may use, such as AVX2")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--place", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure(arguments.one, arguments.place, arguments.steps)
        return
    common = {}
    if arguments.threads:
        common |= dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"), str(arguments.threads))
    if arguments.isa:
        common |= {"ONEDNN_MAX_CPU_ISA": arguments.isa, "XLA_FLAGS": f"--xla_cpu_max_isa={arguments.isa}"}
    print(f"{'ms per step':20}" + "".join(f"{way:>18}" for way in WAYS) + f"{'making a batch':>18}")
    with tempfile.TemporaryDirectory() as place:
        for project in arguments.projects:
            found = [ask(project, place, arguments.steps, common | environment) for environment in WAYS.values()]
            cells = [f"{one['step']:.1f} ({one['step'] / found[0]['step']:.2f})" for one in found]
            print(f"{project:20}" + "".join(f"{cell:>18}" for cell in cells) + f"{found[0]['batch']:18.1f}", flush=True)


if __name__ == "__main__":
    main()
