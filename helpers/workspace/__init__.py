"""Folders of a run: atomic writes, locks, and the steps that talk to each other through files only.

A step's folder is `<root>/<project>/<number>_<step>-<hash8>/`. The hash covers the config fields that the step reads and,
through the hashes of the steps before it, theirs. While a step works its folder ends in `.partial`; the rename at the
end is what makes it done, and a step killed on the way finds its finished items there when it is called again.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from helpers import config as configs
from helpers import intake, runtime
from helpers.workspace import buckets, code, disk, needs, packs, processes
from helpers.workspace.own import active
from helpers.workspace.own import own as own

MARKER = "step.json"
BEGUN = "begun.json"
NOTEBOOKS = ("00_dataset_build", "01_preprocess", "02_split", "03_train", "04_evaluate")


@dataclasses.dataclass(frozen=True)
class Workspace:
    """Where a run keeps its files; ValueError: `root` is an address, or `kept` one that cannot be written.

    Attributes:
        root: folder on a fast local disk.
        kept: folder that outlives the machine, on a mounted Google Drive or in a bucket (gs://bucket/runs), which gets every
            finished step as one packed file, and a training under way every ten minutes; a new machine goes on from there.
    """

    root: Path
    kept: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", disk.local_path(self.root, "workspace"))
        object.__setattr__(self, "kept", self.kept and buckets.place(self.kept, "the folder to keep"))

    @property
    def downloads(self) -> Path:
        """Folder of downloaded archives, shared by all projects."""
        return self.root / "downloads"


Place = Workspace | str | os.PathLike


def as_workspace(workspace: Place) -> Workspace:
    """Take a `Workspace` or the path of its root."""
    return workspace if isinstance(workspace, Workspace) else Workspace(workspace)


@dataclasses.dataclass(frozen=True)
class StepResult:
    """What a finished step left: its folder, the config fields it declares, what it found, and when (`step.json`)."""

    name: str
    folder: Path
    config: dict
    found: dict
    made: str = ""

    def __getitem__(self, key: str) -> Any:
        if key not in self.found:
            raise KeyError(f"step {self.name} reports no {key!r}; it reports: {', '.join(sorted(self.found))}")
        return self.found[key]

    @property
    def source_root(self) -> Path:
        """Folder that the paths in its tables start from: in the step's own folder, or the user's."""
        return self.folder / self["root"]  # an absolute root wins

    def table(self, name: str) -> Any:
        """Read `<name>.csv` of the step's folder as a pandas DataFrame; text columns stay text, see `write_table`."""
        path = self.folder / f"{name}.csv"
        if not path.is_file():
            raise FileNotFoundError(f"step {self.name} has no table {name}.csv; delete {self.folder} to build it again")
        return disk.read_table(path)


@dataclasses.dataclass(frozen=True)
class Step:
    """One of a project's five steps, made by the decorator `step`; call it as `step(config, workspace)`.

    The body gets a view of the config that refuses every field which neither this step nor one before it declares.

    Attributes:
        body: `(config, workspace, folder) -> found`: does the work in `folder` (where a killed run left what it had
            finished) and returns a JSON-able dict.
        reads: config fields that decide its result.
        uses: config fields that only say how the result is made; they stand in no hash.
        fingerprint: `(config) -> JSON-able` describing what else decides the result: files from outside the workspace, tables
            of the code; part of the hash.
        keep: it takes long, so `Workspace.kept` gets its unfinished work too.
    """

    body: Callable[[Any, Workspace, Path], dict]
    reads: tuple[str, ...]
    project: str
    uses: tuple[str, ...] = ()
    after: "Step | None" = None
    fingerprint: Callable[[Any], Any] | None = None
    keep: bool = False

    @property
    def name(self) -> str:
        """The body's name, such as "preprocess"."""
        return self.body.__name__

    @property
    def trains(self) -> bool:
        """Whether several processes do it together: the step `train`. The others are process 0's alone."""
        return self.name == "train"

    @property
    def number(self) -> int:
        """Place in the row of steps, from 0."""
        return len(self.chain()) - 1

    def __call__(self, config: Any, workspace: Place) -> StepResult:
        """Return the finished step, doing or completing its work first.

        Raises:
            RuntimeError: a step before it is not done; the message names the notebook to run first.
            ValueError: a setting, perhaps changed by `dataclasses.replace`, is outside of its limits.
            config.UndeclaredField: the body reads a config field that no step up to this one declares.
        """
        configs.check(config)
        workspace = as_workspace(workspace)
        folder = self.folder(config, workspace)
        if processes.index():
            self._follow(config, workspace, folder)
        else:
            with disk.lock(folder):
                made = not self.done(config, workspace)
                if made:
                    needs.tell([self], config, workspace)
                    self._work(config, workspace, folder)
                elif self.trains:
                    processes.lead(folder.name, work=False)
                self._keep(config, workspace, folder, made=made)
        tell_older(self.chain(), config, workspace)
        return self.load(config, workspace)

    def _work(self, config: Any, workspace: Workspace, folder: Path) -> None:
        results = (step.load(config, workspace) for step in self.chain()[:-1])
        before = {result.folder.name: result.made for result in results}
        partial = folder.with_name(folder.name + ".partial")
        began, seen = time.time(), self._view(config)
        pack = self._pack(config, workspace)
        with disk.explain_disk_errors(folder), packs.keeping(partial, pack if self.keep else None):
            if pack and self.keep and not partial.exists():
                packs.restore_state(pack, partial)
            partial.mkdir(parents=True, exist_ok=True)
            sources = self._sources_at_begin(partial)
            with processes.lead(folder.name, work=True) if self.trains else contextlib.nullcontext():
                found = self.body(seen, workspace, partial)
            marker = {
                "config": configs.values(config, self.reads),
                "inputs": before,
                "fingerprint": self.fingerprint(config) if self.fingerprint else None,
                "found": found,
                "read": sorted(configs.fields_read(seen)),
                "code": sources,
                "made": f"{datetime.now(UTC).isoformat(timespec='seconds')} {secrets.token_hex(4)}",
                "seconds": round(time.time() - began, 1),
            }
            disk.remove_leftovers(partial)
            disk.write_json(partial / MARKER, marker)
            (partial / BEGUN).unlink()
            disk.replace(partial, folder)

    def _keep(self, config: Any, workspace: Workspace, folder: Path, *, made: bool) -> None:
        """Pack a step just made, or, once a process, one that could not be kept before or was made without a place for it."""
        pack = self._pack(config, workspace)
        if pack is None or (folder in _KEPT and not made):
            return
        saved = packs.save(folder, pack, again=made)
        if saved or not made:  # what failed at first is tried once more, at the next call
            _KEPT.add(folder)
        if saved:
            for slot in packs.slots(pack):
                packs.empty(slot)
            packs.copy_small(workspace.downloads, workspace.kept / "downloads")

    def _follow(self, config: Any, workspace: Workspace, folder: Path) -> None:
        """What the others do while process 0 works: the same in a training, where nothing that they write stays, else wait."""
        work = processes.follow(folder.name) if self.trains else None
        if work:
            with work:
                self.body(self._view(config), workspace, folder.with_name(folder.name + ".partial"))
        processes.wait_for(folder / MARKER)

    def _view(self, config: Any) -> Any:
        declared = {name for step in self.chain() for name in (*step.reads, *step.uses)}
        return configs.view(config, declared, f"step {self.name} of {self.project}")

    def _pack(self, config: Any, workspace: Workspace) -> Any | None:
        name = self.folder(config, workspace).name
        return workspace.kept / self.project / f"{name}.tar" if workspace.kept else None

    def _sources_at_begin(self, partial: Path) -> dict[str, str]:
        """The code that began this work, perhaps before a kill; one line where it is not today's."""
        path, now = partial / BEGUN, code.fingerprint(self.body)
        if not path.is_file():
            disk.write_json(path, now)
        began = json.loads(path.read_text(encoding="utf-8"))
        if files := code.changed(began, now):
            print(f"{partial.name} was begun before {files[0]} changed, goes on; to begin anew delete it", flush=True)
        return began

    def older(self, config: Any, workspace: Place) -> str:
        """Why a finished result is not what today's code would make of today's results before it; "" if nothing speaks for that."""
        folder = self.folder(config, workspace)
        marker = _read_marker(folder)
        if files := code.changed(marker["code"], code.fingerprint(self.body)):
            more = f" and {len(files) - 1} more" if len(files) > 1 else ""
            return f"was made before {files[0]}{more} changed"
        for step in self.chain()[:-1]:
            place = step.folder(config, workspace)
            if step.done(config, workspace) and marker["inputs"].get(place.name) != _read_marker(place)["made"]:
                return f"was made from an earlier {place.name}"
        return ""

    def chain(self) -> "list[Step]":
        """The steps from the first to this one."""
        return [*(self.after.chain() if self.after else []), self]

    def digest(self, config: Any) -> str:
        """Eight hex digits over the fields read by this step and those before it, their fingerprints, and what is `own`."""
        parts: list = []
        for step in self.chain():
            fingerprint = step.fingerprint(configs.whole(config)) if step.fingerprint else None
            parts.append([step.name, configs.values(config, step.reads), fingerprint])
        room = f"helpers/{self.project}/runs.py"
        if (replaced := active(self.project)) and any(room in code.fingerprint(step.body) for step in self.chain()):
            parts.append(replaced)
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:8]

    def folder(self, config: Any, workspace: Place) -> Path:
        """Where the finished step stands or will stand."""
        return as_workspace(workspace).root / self.project / f"{self.number}_{self.name}-{self.digest(config)}"

    def done(self, config: Any, workspace: Place) -> bool:
        """Whether the finished step stands in the workspace; one that stands packed on `kept` is unpacked first."""
        workspace = as_workspace(workspace)
        folder, pack = self.folder(config, workspace), self._pack(config, workspace)
        if pack and not folder.exists() and not processes.index():
            packs.restore(pack, folder)
        return (folder / MARKER).is_file()

    def load(self, config: Any, workspace: Place) -> StepResult:
        """Read a finished step.

        RuntimeError: it is not done; the message names the notebook to run first. ValueError: its `step.json` is damaged.
        """
        folder = self.folder(config, workspace)
        if not self.done(config, workspace):
            raise RuntimeError(f"step {self.name} is not done for this config: run {NOTEBOOKS[self.number]} first")
        marker = _read_marker(folder)
        return StepResult(self.name, folder, marker["config"], marker["found"], marker["made"])


def _read_marker(folder: Path) -> dict:
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return {name: marker[name] for name in ("config", "inputs", "found", "code", "made")}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / MARKER} is damaged ({error}): delete its folder, run the step again") from error


def fingerprint_local(
    config: Any,
    *,
    expected: str,
    key: str = "local_folder",
    sources: tuple[str, ...] = ("local",),
    notes: bool = False,
) -> list[tuple[str, int, int]] | None:
    """Names, sizes and times of a local folder's files, for a step's `fingerprint`: a changed folder makes a new data set.

    FileNotFoundError: there is no such folder.

    Args:
        expected: what the folder has to be, for the error, such as "one with a folder per class".
        sources: the values of `config.source` that read it.
        notes: files count that are text by their suffix; else a note that somebody drops there makes nothing anew.

    Returns:
        (name from the folder, bytes, nanoseconds) of every file that counts, by name; None where `config.source` is another.
    """
    if config.source not in sources:
        return None
    root = disk.local_path(getattr(config, key), key)
    if not root.is_dir():
        raise FileNotFoundError(f"{key}: no folder {root}; expected {expected}")
    found = []
    for path, skipped in intake.entries(root):
        note = not notes and path.suffix.lower() in intake.NOTES
        if not (skipped or note) and (root / path).is_file():
            status = (root / path).stat()
            found.append((intake.shown(path.as_posix()), status.st_size, status.st_mtime_ns))
    return sorted(found)


def step(*, project: str | None = None, after: Step | None = None, **options: Any) -> Callable[[Callable], Step]:
    """Decorator that makes a `Step` of its body; see `Step` for the arguments. `project` is needed for the first step only."""
    return lambda body: Step(body, project=project or after.project, after=after, **options)


def ensure(steps: list[Step], until: str, config: Any, workspace: Place) -> dict[str, StepResult]:
    """Make sure that the steps up to `until` (included) are done; returns their results by name.

    Missing steps are made on the spot. On genuine data a table says first what they take, with the step after them, which is
    the calling notebook's own, and what is free here.

    Raises:
        ValueError: `until` is no step.
        RuntimeError: what is missing cannot fit here, or needs a GPU that is not here; nothing was begun.
    """
    names = [step.name for step in steps]
    if until not in names:
        raise ValueError(f"until must be one of {', '.join(names)}. Received: until={until!r}")
    if not processes.index():
        needs.tell(steps[: names.index(until) + 2], config, as_workspace(workspace))
    results = {step.name: step(config, workspace) for step in steps[: names.index(until) + 1]}
    print("ready: " + ", ".join(result.folder.name for result in results.values()))
    return results


_TOLD: set[Path] = set()
_KEPT: set[Path] = set()


def tell_older(steps: list[Step], config: Any, workspace: Place) -> None:
    """Print one line, once in a process, for the first of these results that older code made; what follows is made of it."""
    for step in steps:
        if reason := step.older(config, workspace):
            folder = step.folder(config, workspace)
            anew = f'workspace.forget(STEPS, "{step.name}", config, place)'
            if folder not in _TOLD:
                print(
                    f"older code: {folder.name} {reason}, and is used as it is; to make it and what follows anew: {anew}"
                )
            _TOLD.add(folder)
            return


def forget(steps: list[Step], begin: str, config: Any, workspace: Place) -> list[str]:
    """Delete the results of step `begin` and of those after it, finished or not, so that the next call makes them anew.

    Returns the names of the deleted folders; ValueError: `begin` is no step.
    """
    names = [step.name for step in steps]
    if begin not in names:
        raise ValueError(f"begin must be one of {', '.join(names)}. Received: begin={begin!r}")
    gone = []
    for step in steps[names.index(begin) :]:
        folder, pack = step.folder(config, workspace), step._pack(config, as_workspace(workspace))
        with disk.lock(folder):
            for place in (folder, folder.with_name(folder.name + ".partial")):
                if place.is_dir():
                    shutil.rmtree(place)
                    gone.append(place.name)
            for place in (pack, *packs.slots(pack)) if pack else ():
                packs.empty(place)
    return gone


def open_workspace(*, drive: bool = False) -> Workspace:
    """The workspace of a notebook: COURSE_WORKSPACE, else `workspace/` in the repository.

    What outlives the machine goes to Drive, if asked, else to the folder, of a disk or a bucket, that COURSE_KEEP names.
    """
    chosen = os.environ.get("COURSE_WORKSPACE") or runtime.repo_root() / "workspace"
    root = disk.local_path(chosen, "COURSE_WORKSPACE").resolve()
    mounted = runtime.mount_drive(drive)
    kept = mounted / "learning-from-video" if mounted else None
    if kept is None and os.environ.get("COURSE_KEEP"):
        kept = buckets.reach(os.environ["COURSE_KEEP"], "COURSE_KEEP")
    if kept:
        packs.copy_small(kept / "downloads", root / "downloads")
    return Workspace(root, kept)
