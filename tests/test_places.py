"""Odd places for files: addresses, strange and long names, a disk that is full, breaks, or is a file; never an item's fault."""

import errno
import importlib
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import intake, parallel, runtime, video

runtime.quiet_start()

import keras
import test_sides

from helpers import workspace
from helpers.__main__ import main
from helpers.course.notebooks import PROJECTS
from helpers.training import checkpoints
from helpers.workspace import disk

ROOT = runtime.repo_root()
ADDRESSES = [
    *("gs://bucket/runs", "s3://bucket/runs", "http://host/runs", "https://host/runs", "file:///runs"),
    *("hdfs://host/runs", "gs:/bucket/runs", "GS://bucket", "abfs+x.y-z://a"),
]
FINE = ["runs", "./a:b/c", "~/runs", "C:/runs", "D:\\runs", "1:/x", "a b/ü/100 %/#?&", "x/gs://y"]


# --- addresses ---


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_refused_in_one_sentence_wherever_a_folder_is_named(address, tmp_path, monkeypatch, capsys):
    def refused(call, key):
        with pytest.raises(ValueError) as caught:
            call()
        assert str(caught.value).startswith(f"{key}: received {address!r}; allowed: a folder of this machine")
        assert "\n" not in str(caught.value)

    refused(lambda: workspace.as_workspace(address), "workspace")
    monkeypatch.setitem(sys.modules, "upath", None)  # what can be kept in a bucket: test_buckets
    for key in ("COURSE_WORKSPACE", "COURSE_KEEP"):
        with monkeypatch.context() as patch:
            patch.setenv("COURSE_WORKSPACE", str(tmp_path))
            patch.setenv(key, address)
            refused(workspace.open_workspace, key)
    for option in ("--workspace", "--keep", "--html"):
        assert main(["run", "--until", "00", "--workspace", str(tmp_path), option, address]) == 1
        assert (
            f"{option.removeprefix('--')}: received {address!r}; allowed: a folder of this" in capsys.readouterr().err
        )
    with pytest.raises(ValueError, match="allowed: a folder of this machine"):
        workspace.Workspace(Path(address))
    with pytest.raises(ValueError, match="allowed: a folder of this machine"):
        workspace.Workspace(tmp_path, Path(address))
    assert not list(tmp_path.iterdir()) and not Path(address.split("/")[0]).exists()


@pytest.mark.parametrize("project", PROJECTS)
def test_so_are_the_users_own_data(project, tmp_path, monkeypatch):
    (tmp_path / "drawn").mkdir()
    config = test_sides.load(project).prepare(tmp_path / "drawn")
    key = "path_to_dataset" if hasattr(config, "path_to_dataset") else "local_folder"
    object.__setattr__(config, key, "s3://bucket/clips")
    with pytest.raises(ValueError, match=rf"^{key}: received 's3://bucket/clips'; allowed: a folder of this machine"):
        workspace.ensure(importlib.import_module(f"helpers.{project}.steps").STEPS, "build_dataset", config, tmp_path)


@pytest.mark.parametrize("path", FINE)
def test_folders_are_folders(path):
    assert disk.local_path(path, "x") == Path(path).expanduser()


def test_bytes_that_are_no_text(tmp_path):
    with pytest.raises(ValueError, match=r"workspace: received .*no UTF-8, which video libraries cannot open; allowed"):
        workspace.as_workspace(os.fsdecode(b"/tmp/a\x8cb"))


# --- names ---

NAMES = {
    "spaces, umlauts, a percent sign": "mit Leerzeichen/größer/100 %/%d %s %03d [a] {b} #1 'x' & $HOME",
    "other alphabets": "й/日本語/🚤",
    "long": "/".join(["a" * 240] * (6 if os.name == "posix" else 0)),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "file", ["clip.avi", "clip.mp4", "clip.webm", f"{'b' * 240}.avi", f"{'日' * 80}.mp4", "a.b c%.d.avi"]
)
def test_files_of_any_name(tmp_path, name, file):
    path = tmp_path / NAMES[name] / file
    frames = np.random.default_rng(0).integers(0, 255, (5, 32, 48, 3), np.uint8)
    assert video.write_video(path, frames) == video.count_frames(path) == len(list(video.read_frames(path))) == 5
    disk.write_table(path.with_suffix(".csv"), pd.DataFrame({"a": [file]}))
    assert disk.read_table(path.with_suffix(".csv"))["a"].tolist() == [file]
    assert len(list(path.parent.iterdir())) == 2


@pytest.mark.parametrize("suffixes", [".npz", ".weights.h5", f".{'x' * 120}.y", "." + "й" * 60])
def test_a_temporary_name_is_never_longer_than_a_name_may_be(tmp_path, suffixes):
    path = tmp_path / ("日" * ((240 - len(suffixes.encode())) // 3) + suffixes)
    disk.write_json(path, 1)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_a_file_in_the_way_and_a_path_too_long(tmp_path):
    (tmp_path / "file").write_text("")
    for place, words in ((tmp_path / "file" / "runs", "a file is in the way"), (tmp_path / ("x" * 300), "too long")):
        with pytest.raises(OSError, match=words) as caught, disk.lock(place / "step"):
            pass
        assert "COURSE_WORKSPACE" in str(caught.value)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_an_error_of_another_disk_keeps_its_name(tmp_path, code):
    for folder, words in ((tmp_path / "mine", os.strerror(code)), (tmp_path / "runs", "COURSE_WORKSPACE")):
        with (
            pytest.raises(OSError, match=words) as caught,
            disk.explain_disk_errors(tmp_path / "runs" / "1_preprocess"),
        ):
            raise OSError(code, os.strerror(code), str(folder / "clip.avi"))
        assert caught.value.errno == code and str(folder) in str(caught.value)


def test_a_folder_that_cannot_be_made_on_the_way_is_explained(tmp_path):
    with (
        pytest.raises(OSError, match=r"read-only.*COURSE_WORKSPACE"),
        disk.explain_disk_errors(tmp_path / "w/report/a"),
    ):
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / "w"))


# --- whose fault is it ---


def blames(error):
    """A function for `parallel` that raises this, which must survive the way from another process."""

    def raises(item):
        raise error

    return raises


def after(error, cause):
    error.__cause__ = cause
    return error


def hidden(error, context):
    error.__context__, error.__suppress_context__ = context, True
    return error


FULL = OSError(errno.ENOSPC, "No space left on device")
DISK = {
    "full": FULL,
    "broken": OSError(errno.EIO, "Input/output error", "clip.avi"),
    "no rights": PermissionError(errno.EACCES, "Permission denied", "clip.avi"),
    "read-only": OSError(errno.EROFS, "Read-only file system"),
    "too large": OSError(errno.EFBIG, "File too large"),
    "a name that is gone because of it": after(FileNotFoundError(errno.ENOENT, "No such file", ".a-x.jpg"), FULL),
    "told as another error": after(ValueError("not one frame decodes"), FULL),
    "two steps away": after(ValueError("a"), after(RuntimeError("b"), FULL)),
}
OWN = {
    "told as no disk's fault": hidden(ValueError("the file ends"), OSError(errno.EIO, "Input/output error")),
    "gone": FileNotFoundError(errno.ENOENT, "No such file", "clip.avi"),
    "a folder": IsADirectoryError(errno.EISDIR, "Is a directory", "clip.avi"),
    "a name too long for what is made of it": OSError(errno.ENAMETOOLONG, "File name too long", "x" * 255),
    "links in a circle": OSError(errno.ELOOP, "Too many levels of symbolic links", "clip.avi"),
    "no video": ValueError("not one frame decodes"),
}


@pytest.mark.parametrize("name", DISK)
def test_the_disk_is_to_blame(name):
    with pytest.raises(OSError, match="2 clips could not be written, call again once this is mended") as caught:
        parallel.parallel(blames(DISK[name]), [1, 2], what="clips", jobs=1)
    assert caught.value.errno in parallel.FAULTS


@pytest.mark.parametrize("name", OWN)
def test_the_item_is_to_blame(name):
    table = parallel.parallel(blames(OWN[name]), [1], jobs=1)
    assert type(OWN[name]).__name__ in table["error"][0]


# --- a disk that takes no more, in every step that works through items ---


@pytest.fixture
def full():
    """Call it: from then on the system lets no item's file grow beyond 60 bytes; call what it gives to end that."""
    resource = pytest.importorskip("resource")
    genuine, before = parallel.parallel, resource.getrlimit(resource.RLIMIT_FSIZE)
    patches = pytest.MonkeyPatch()
    names = ("parallel", "lip_reading.data", "lip_reading.sources.local")
    rooms = [importlib.import_module(f"helpers.{name}") for name in names]

    def limited(function, items, **options):
        resource.setrlimit(resource.RLIMIT_FSIZE, (60, before[1]))
        try:
            return genuine(function, items, **options | {"jobs": 1})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    def begin():
        for room in rooms:
            patches.setattr(room, "parallel", limited)
        return patches.undo

    yield begin
    patches.undo()


@pytest.mark.parametrize("project", PROJECTS)
def test_a_full_disk_is_no_fault_of_the_items(project, tmp_path, full):
    (tmp_path / "drawn").mkdir()
    config = test_sides.load(project).prepare(tmp_path / "drawn")
    if project == "boat_detection":  # pictures that are drawn anew, not copied
        object.__setattr__(config, "max_side", 32)
    build, preprocess = importlib.import_module(f"helpers.{project}.steps").STEPS[:2]
    built = build(config, tmp_path)
    end = full()
    with pytest.raises(OSError, match=r"could not be written, call again") as caught:
        preprocess(config, tmp_path)
    assert caught.value.errno in (errno.EFBIG, errno.EIO) and "(COURSE_WORKSPACE)" in str(caught.value)
    assert not preprocess.done(config, tmp_path)
    end()
    done = preprocess(config, tmp_path)
    assert done["failed"] == 0 and done.folder != built.folder


DRAWN = {  # module that draws, what keeps it small
    "temporal_coherence": {"classes": ("Archery",), "groups": (1,), "clips_per_group": 1, "frames": (8, 9)},
    "boat_detection": {"images": 40},
    "lip_reading": {"speakers": 2, "repeats": 1},
    "face_animation": {"people": (2, 1), "clips": 1},
}


@pytest.mark.parametrize("project", DRAWN)
def test_a_full_disk_while_drawing(project, tmp_path, full):
    draw = importlib.import_module(f"helpers.{project}.mini.dataset").make_dataset
    full()
    with pytest.raises(OSError, match=r"could not be written, call again"):
        draw(tmp_path / "drawn", **DRAWN[project])


def test_numpys_words_for_a_full_disk(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        with pytest.raises(OSError, match="the disk is full"), disk.atomic_write(tmp_path / "a.npy") as file:
            np.save(file, np.zeros(9000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_what_hdf5_would_die_of_is_an_error_before_it_begins(tmp_path):
    """On a full disk HDF5 fails to close its file, and takes the process along."""
    path, model = tmp_path / "a.weights.h5", keras.Sequential([keras.Input((300,)), keras.layers.Dense(40)])
    model.compile("adam", "mse")
    model.fit(np.zeros((2, 300)), np.zeros((2, 40)), verbose=0)
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    needed = checkpoints.room_for(model)
    resource.setrlimit(resource.RLIMIT_FSIZE, (needed - 1, before[1]))
    try:
        refused = pytest.raises(OSError, match=r"cannot write a\.weights\.h5 in .*COURSE_WORKSPACE")
        with refused, disk.atomic_path(path, room=needed):
            raise AssertionError("the writer must not begin")
        assert not list(tmp_path.iterdir())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with disk.atomic_path(path, room=needed) as temporary:
        model.save_weights(temporary)
    assert 4 * 3 * 12_040 < path.stat().st_size <= needed
    with pytest.raises(OSError, match="the disk is full"), disk.atomic_path(path, room=1 << 60):
        pass


# --- a disk that breaks while it is read ---

BROKEN = Path("/proc/self/mem")  # its first byte cannot be read: EIO


@pytest.mark.skipif(not BROKEN.exists(), reason="needs Linux's /proc")
def test_a_clip_that_the_disk_cannot_read_is_no_bad_clip(tmp_path):
    with pytest.raises(OSError) as caught:
        BROKEN.read_bytes()
    assert caught.value.errno == errno.EIO
    (tmp_path / "clip.avi").symlink_to(BROKEN)
    with pytest.raises(OSError, match="Input/output error"):
        intake.walk(tmp_path, [intake.VIDEO])
    (tmp_path / "bad.avi").write_bytes(b"no video")
    names = ["bad.avi"]
    for suffix in ("avi", "mp4", "webm"):  # FFmpeg tells of those that are cut off in the words of a disk's error
        video.write_video(
            tmp_path / f"whole.{suffix}", np.random.default_rng(0).integers(0, 255, (9, 64, 64, 3), np.uint8)
        )
        content = (tmp_path / f"whole.{suffix}").read_bytes()
        for share in (0.01, 0.3, 0.6, 0.9, 0.99):
            names.append(f"{share}.{suffix}")
            (tmp_path / names[-1]).write_bytes(content[: int(share * len(content))])
    table = parallel.parallel(lambda name: {"frames": video.count_frames(tmp_path / name)}, names, jobs=1)
    assert 1 < (table["error"] != "").sum() < len(names)
    with pytest.raises(OSError, match=r"\[Errno 5\]"):
        parallel.parallel(lambda name: {"frames": video.count_frames(tmp_path / name)}, ["clip.avi"], jobs=1)
