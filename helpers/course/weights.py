"""Published weights, in `notebooks/<project>/weights/`: where a network finds the numbers that fill it, checked by sha256.

How they are made, scored and held to their cards is `helpers.course.cards`, which no training reads.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from helpers import config, runtime
from helpers.fetch import manifests
from helpers.fetch.downloads import SourceFailed

SUFFIX = ".weights.h5"


def room(project: str, name: str) -> ModuleType:
    """A module of a project by its name, such as `runs`."""
    return importlib.import_module(f"helpers.{project}.{name}")


def settings(project: str, name: str = "long") -> Any:
    """The config of a project's long.yaml, which the published weights were trained with; or of another of its files."""
    return config.load(runtime.repo_root() / "notebooks" / project / f"{name}.yaml", config.schema_of(project))


def path(project: str, name: str) -> Path:
    """A published file, whole and unchanged.

    Args:
        name: of a network, such as "detector", or of another file with its suffix, such as "network.cfg".

    Raises:
        FileNotFoundError: it is not there.
        ValueError: the manifest does not know it, or it is another file; each says how to get it back.
    """
    target = place_of(project, name)
    label, files = label_of(target), {file.name: file for file in manifest().files}
    again = f"git checkout {label} brings it back, python -m helpers weights train {project} makes it anew"
    if label not in files:
        known = ", ".join(sorted(other for other in files if other.split("/")[1] == project)) or "none of this project"
        raise ValueError(f"data_manifests/weights.yaml does not know {label}; it knows: {known}")
    if not target.is_file():
        raise FileNotFoundError(f"{label} is not there: {again}")
    try:
        files[label].check(target)
    except SourceFailed as error:
        raise ValueError(f"{label} is not the published file ({error}): {again}") from None
    return target


def fill(project: str, networks: Any) -> Any:
    """Give a project's network, or its networks by name, the published weights; returns them. Raises as `path`."""
    for name, network in by_name(project, networks).items():
        network.load_weights(path(project, name))
    return networks


def by_name(project: str, networks: Any) -> dict[str, Any]:
    """Networks by the names of their files, also where a project has only one."""
    return networks if isinstance(networks, dict) else {room(project, "runs").PUBLISHED: networks}


def place_of(project: str, name: str) -> Path:
    """Where a published file stands, or would; `name` as in `path`."""
    name = name.replace(" ", "_") + ("" if "." in name else SUFFIX)
    return runtime.repo_root() / "notebooks" / project / "weights" / name


def label_of(target: Path) -> str:
    """A file's path from the repository's root, its name in the manifest."""
    return target.relative_to(runtime.repo_root()).as_posix()


def manifest() -> manifests.Manifest:
    """Sizes and sums of all published files."""
    return manifests.load_manifest(runtime.repo_root() / "data_manifests" / "weights.yaml")
