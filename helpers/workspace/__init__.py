"""Folders of a run: atomic writes, locks, and the steps that talk to each other through files only.

A step's folder is `<root>/<project>/<number>_<step>-<hash8>/`. The hash covers the config fields that the step reads and,
through the hashes of the steps before it, theirs. While a step works its folder ends in `.partial`; the rename at the
end is what makes it done, and a step killed on the way finds its finished items there when it is called again.
"""

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from helpers import runtime
from helpers.workspace import disk

MARKER = "step.json"
NOTEBOOKS = ("00_dataset_build", "01_preprocess", "02_split", "03_train", "04_evaluate")


@dataclasses.dataclass(frozen=True)
class Workspace:
    """Where a run keeps its files.

    Attributes:
        root: folder on a fast local disk.
        kept: folder that outlives the machine (Google Drive) for downloads and for steps marked `keep`; default `root`.
    """

    root: Path
    kept: Path | None = None

    @property
    def downloads(self) -> Path:
        """Folder of downloaded archives, shared by all projects."""
        return (self.kept or self.root) / "downloads"


def as_workspace(workspace: Workspace | str | os.PathLike) -> Workspace:
    """Take a `Workspace` or the path of its root."""
    return workspace if isinstance(workspace, Workspace) else Workspace(Path(workspace))


@dataclasses.dataclass(frozen=True)
class StepResult:
    """What a finished step left: its folder, the config fields it read and what it found (`step.json`)."""

    name: str
    folder: Path
    config: dict
    found: dict

    def __getitem__(self, key: str) -> Any:
        if key not in self.found:
            raise KeyError(f"step {self.name} reports no {key!r}; it reports: {', '.join(sorted(self.found))}")
        return self.found[key]

    def table(self, name: str) -> Any:
        """Read `<name>.csv` of the step's folder as a pandas DataFrame; text columns stay text, see `write_table`."""
        path = self.folder / f"{name}.csv"
        if not path.is_file():
            raise FileNotFoundError(f"step {self.name} has no table {name}.csv; delete {self.folder} to build it again")
        return disk.read_table(path)


@dataclasses.dataclass(frozen=True)
class Step:
    """One of a project's five steps, made by the decorator `step`; call it as `step(config, workspace)`.

    Attributes:
        body: `(config, workspace, folder) -> found`: does the work in `folder` (where a killed run left what it had
            finished) and returns a JSON-able dict.
        reads: config fields that the body reads.
        after: the step before this one.
        fingerprint: `(config) -> JSON-able` describing files from outside the workspace; part of the hash.
        keep: the folder belongs on `Workspace.kept`.
    """

    body: Callable[[Any, Workspace, Path], dict]
    reads: tuple[str, ...]
    after: "Step | None" = None
    fingerprint: Callable[[Any], Any] | None = None
    keep: bool = False

    @property
    def name(self) -> str:
        """The body's name, such as "preprocess"."""
        return self.body.__name__

    @property
    def project(self) -> str:
        """The package that the body is defined in (`helpers.<project>.steps`)."""
        return self.body.__module__.split(".")[-2:][0]

    @property
    def number(self) -> int:
        """Place in the row of steps, from 0."""
        return len(self.chain()) - 1

    def __call__(self, config: Any, workspace: Workspace | str | os.PathLike) -> StepResult:
        """Return the finished step, doing or completing its work first.

        Raises:
            RuntimeError: a step before it is not done; the message names the notebook to run first.
        """
        workspace = as_workspace(workspace)
        folder = self.folder(config, workspace)
        with disk.lock(folder):
            if not (folder / MARKER).is_file():
                self._work(config, workspace, folder)
        return self.load(config, workspace)

    def _work(self, config: Any, workspace: Workspace, folder: Path) -> None:
        before = [step.load(config, workspace).folder.name for step in self.chain()[:-1]]
        partial = folder.with_name(folder.name + ".partial")
        began = time.time()
        with disk.explain_disk_errors(folder):
            partial.mkdir(parents=True, exist_ok=True)
            marker = {
                "config": self.values(config),
                "inputs": before,
                "fingerprint": self.fingerprint(config) if self.fingerprint else None,
                "found": self.body(config, workspace, partial),
                "seconds": round(time.time() - began, 1),
            }
            disk.write_json(partial / MARKER, marker)
            partial.replace(folder)

    def chain(self) -> "list[Step]":
        """The steps from the first to this one."""
        return [*(self.after.chain() if self.after else []), self]

    def values(self, config: Any) -> dict:
        """The config fields that this step reads, as a plain dict."""
        return {name: getattr(config, name) for name in self.reads}

    def digest(self, config: Any) -> str:
        """Eight hex digits over the fields read by this step and those before it, and their fingerprints."""
        parts = [
            [step.name, step.values(config), step.fingerprint(config) if step.fingerprint else None]
            for step in self.chain()
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:8]

    def folder(self, config: Any, workspace: Workspace | str | os.PathLike) -> Path:
        """Where the finished step stands or will stand."""
        workspace = as_workspace(workspace)
        root = (workspace.kept or workspace.root) if self.keep else workspace.root
        return Path(root) / self.project / f"{self.number}_{self.name}-{self.digest(config)}"

    def done(self, config: Any, workspace: Workspace | str | os.PathLike) -> bool:
        """Whether the finished step stands in the workspace."""
        return (self.folder(config, workspace) / MARKER).is_file()

    def load(self, config: Any, workspace: Workspace | str | os.PathLike) -> StepResult:
        """Read a finished step.

        Raises:
            RuntimeError: it is not done; the message names the notebook to run first.
            ValueError: its `step.json` is damaged.
        """
        folder = self.folder(config, workspace)
        if not self.done(config, workspace):
            raise RuntimeError(f"step {self.name} is not done for this config: run {NOTEBOOKS[self.number]} first")
        try:
            marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
            return StepResult(self.name, folder, marker["config"], marker["found"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{folder / MARKER} is damaged ({error}): delete its folder, run the step again"
            ) from error


def fingerprint_local(
    config: Any,
    find: Callable[[Path], Iterable[Path]],
    *,
    expected: str,
    key: str = "local_folder",
    sources: tuple[str, ...] = ("local",),
) -> list[tuple[str, int, int]] | None:
    """Names, sizes and times of a local folder's files, for a step's `fingerprint`: a changed folder makes a new data set.

    Args:
        config: a project's config.
        find: gives the files of the folder that matter, in any order.
        expected: what the folder has to be, for the error, such as "one with a folder per class".
        key: the config field that names the folder.
        sources: the values of `config.source` that read it.

    Returns:
        (name from the folder, bytes, nanoseconds) of every file, by name; None where `config.source` is another.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if config.source not in sources:
        return None
    root = Path(getattr(config, key)).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{key}: no folder {root}; expected {expected}")
    return [
        (path.relative_to(root).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(find(root))
    ]


def step(
    *,
    reads: tuple[str, ...],
    after: Step | None = None,
    fingerprint: Callable[[Any], Any] | None = None,
    keep: bool = False,
) -> Callable[[Callable[[Any, Workspace, Path], dict]], Step]:
    """Decorator that makes a `Step` of its body; see `Step` for the arguments."""
    return lambda body: Step(body, reads, after, fingerprint, keep)


def ensure(
    steps: list[Step], until: str, config: Any, workspace: Workspace | str | os.PathLike
) -> dict[str, StepResult]:
    """Make sure that the steps up to `until` (included) are done; returns their results by name.

    On drawn mini data (`config.source == "mini"`) missing steps are made on the spot; otherwise the error names the
    notebook to run first, since a step on real data may download or compute for hours. Prints the same line either way.

    Raises:
        ValueError: `until` is no step.
        RuntimeError: a step is missing and the data are not mini.
    """
    names = [step.name for step in steps]
    if until not in names:
        raise ValueError(f"until must be one of {', '.join(names)}. Received: until={until!r}")
    results = {}
    for step in steps[: names.index(until) + 1]:
        results[step.name] = step(config, workspace) if config.source == "mini" else step.load(config, workspace)
    print("ready: " + ", ".join(result.folder.name for result in results.values()))
    return results


def open_workspace(*, drive: bool = False) -> Workspace:
    """The workspace of a notebook: COURSE_WORKSPACE, else `workspace/` in the repository; what is kept on Drive if asked."""
    root = Path(os.environ.get("COURSE_WORKSPACE") or runtime.repo_root() / "workspace").expanduser().resolve()
    mounted = runtime.mount_drive(drive)
    return Workspace(root, mounted / "learning-from-video" if mounted else None)
