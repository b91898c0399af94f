"""What steps on genuine data take, told in one table before they begin, and refused with numbers where it cannot fit."""

import shutil
from collections.abc import Sequence
from typing import Any

from helpers import runtime
from helpers.estimates import Needs, together

GIGA = 1e9
COLUMNS = {"download GB": "download", "disk GB": "disk", "memory GB": "memory", "GPU GB": "gpu_memory"}
_TOLD: set[tuple[Any, str]] = set()


def tell(steps: Sequence[Any], config: Any, workspace: Any) -> None:
    """Print what those of `steps` take that are not done, once in a process, unless the data are drawn or nobody can know.

    RuntimeError: it cannot fit, or a training is among them that needs a GPU; the message has the numbers.
    """
    missing = [step.name for step in steps if not step.done(config, workspace)]
    known = getattr(config, "needs", dict)()
    if not known or all((config, name) in _TOLD for name in missing):
        return
    if "train" in missing:
        runtime.require_gpu(config)
    wanted = {name: known[name] for name in missing if name in known}
    if not wanted:  # what is missing takes nothing worth telling, such as a split
        return
    root = workspace.root.absolute()
    free = shutil.disk_usage(next(place for place in (root, *root.parents) if place.exists())).free
    here = f"free here: {free / GIGA:.0f} GB of disk, {runtime.memory() / GIGA:.0f} GB of memory"
    print(*_lines(wanted), here, sep="\n")
    gpus = [device["memory_gib"] for device in runtime.devices() if device["kind"] == "GPU" and device["memory_gib"]]
    gpu_memory = min(gpus) * 2**30 if gpus else None
    refuse(wanted, free=free + begun(workspace, steps[0].project), memory=runtime.memory(), gpu_memory=gpu_memory)
    _TOLD.update((config, name) for name in missing)


def refuse(wanted: dict[str, Needs], *, free: float, memory: float, gpu_memory: float | None) -> None:
    """RuntimeError where the steps do not fit into so many bytes; `gpu_memory` is None where no GPU tells its own."""
    disk = together(*wanted.values()).disk
    problems = [f"{disk / GIGA:.0f} GB of disk, of which {free / GIGA:.0f} GB can be had"] if disk > free else []
    for what, here, field in (("memory", memory, "memory"), ("GPU memory", gpu_memory, "gpu_memory")):
        name = max(wanted, key=lambda name: getattr(wanted[name], field))
        most = getattr(wanted[name], field)
        if here is not None and most > here:
            problems.append(f"{most / GIGA:.0f} GB of {what} in step {name}, of {here / GIGA:.0f} GB")
    if problems:
        raise RuntimeError(
            f"this config does not fit here: it needs {' and '.join(problems)}. "
            "Nothing was begun: take a smaller config, or a larger machine"
        )


def begun(workspace: Any, project: str) -> int:
    """Bytes that downloads and unfinished steps of a project hold already."""
    places = [workspace.downloads, *(workspace.root / project).glob("*.partial")]
    return sum(path.stat().st_size for place in places for path in place.rglob("*") if path.is_file())


def _lines(wanted: dict[str, Needs]) -> list[str]:
    rows = {**wanted, "together": together(*wanted.values())} if len(wanted) > 1 else wanted
    lines = [f"{'to be made':16}" + "".join(f"{title:>13}" for title in (*COLUMNS, "minutes"))]
    for name, need in rows.items():
        sizes = "".join(f"{getattr(need, field) / GIGA:13.1f}" for field in COLUMNS.values())
        lines.append(f"{name:16}{sizes}{need.minutes:13.0f}")
    return [*lines, "minutes: computed for a T4 and two cores, not measured"]
