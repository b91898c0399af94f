"""AudioSet's official archive, in its genuine form, from a server on this machine through the five steps."""

from helpers import runtime

runtime.quiet_start()

import dataclasses
import io
import sys
import tarfile

import numpy as np
import pytest
import tensorflow as tf

sys.path.append(str(runtime.repo_root() / "tests"))

import download_server

from helpers.circulant_video import splits, steps
from helpers.circulant_video.config import CirculantVideoConfig
from helpers.circulant_video.formats import examples, tfrecord
from helpers.circulant_video.mini import dataset
from helpers.circulant_video.sources import audioset, vocabulary
from helpers.fetch import archives, manifests

FILES = {  # records; the same names stand in every folder, and two differ by case alone
    "bal_train/00": 20, "bal_train/-_": 12, "eval/00": 14, "eval/Em": 6,
    "unbal_train/00": 18, "unbal_train/eM": 8, "unbal_train/Em": 8,
}  # fmt: skip
CONFIG = CirculantVideoConfig(
    source="audioset", feature_names=("audio_embedding",), feature_sizes=(128,), classes=527, max_frames=10,
    experiments=("diagonal",), seeds=(0,), clusters=16, hidden=8, mixtures=1, bags=1, iterations=2, momentum=0.9,
    batch_size=16, epochs=1, watch_videos=5, allow_cpu=True,
)  # fmt: skip


def pack(files):
    """A tar.gz of name -> content; None stands for a link."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.linkname = tarfile.SYMTYPE, "00.tfrecord"
            member.size = len(content or b"")
            archive.addfile(member, io.BytesIO(content or b""))
    return packed.getvalue()


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """Name -> bytes of a TFRecord file with AudioSet's keys; ids tell which file and record."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    for place, (name, count) in enumerate(FILES.items()):
        payloads = [
            examples.encode_frame_level(
                f"{name}:{number}", rng.choice(527, 2, replace=False),
                {"audio_embedding": rng.integers(0, 256, (10 - number % 2, 128))},
                id_key="video_id", start_time_seconds=[30.0], end_time_seconds=[40.0],
            )
            for number in range(count)
        ]  # fmt: skip
        tfrecord.write_records(folder / f"{place}.tfrecord", payloads)
        if name == "unbal_train/eM":
            dataset.damage_records(folder / f"{place}.tfrecord", folder / f"{place}.tfrecord", {3: "checksum"})
    return {name: (folder / f"{place}.tfrecord").read_bytes() for place, name in enumerate(FILES)}


@pytest.fixture(scope="module")
def archive(contents):
    return pack({f"audioset_v1_embeddings/{name}.tfrecord": content for name, content in contents.items()})


@pytest.fixture
def server(archive, monkeypatch):
    """Serves the archive where the code looks for it; the official server answers HEAD too."""
    head = lambda request: request.head(200, len(request.server.state.body), {})  # noqa: E731
    monkeypatch.setattr(download_server.Handler, "do_HEAD", head, raising=False)
    with download_server.serve(monkeypatch) as state:
        state.body = archive
        monkeypatch.setattr(audioset, "FEATURES", state.url)
        monkeypatch.setattr(vocabulary, "fetch_names", lambda *_, **__: None)
        yield state


def test_the_official_archive_goes_through_all_steps(server, contents, tmp_path):
    server.plan = ["truncate"]  # it is then asked for the rest
    done = {step.name: step(CONFIG, tmp_path) for step in steps.STEPS}
    assert download_server.sent(server) < 1.2 * len(server.body)
    table = done["split"].table("shards").set_index("shard")
    assert table["videos"].to_dict() == FILES | {"unbal_train/eM": 7}
    for name, side in table["split"].items():
        assert side == ("validation" if name.startswith("eval/") else "train")
    problems = done["preprocess"].table("problems")
    assert problems[["file", "record"]].values.tolist() == [["frame/unbal_train/eM.tfrecord", 3]]
    train, validation = steps.open_sides(CONFIG, tmp_path)
    assert {name.split(":")[0] for name in validation.ids} == {"eval/00", "eval/Em"}
    assert (
        (len(train), len(validation)) == (65, 20) == tuple(done["split"]["videos"][s] for s in ("train", "validation"))
    )
    for videos in (train, validation):
        for row, name in enumerate(videos.ids):  # each file's frames under each file's names, as TensorFlow reads them
            labels, frames = expected(contents, *name.split(":"))
            assert (videos.frames(row) == frames).all() and set(np.flatnonzero(videos.labels([row])[0])) == labels
    assert done["evaluate"]["videos"] == 20 and set(done["evaluate"]["gap"]) == {
        "class prior",
        *done["train"]["networks"],
    }


def expected(contents, name, number):
    """Labels and frames of a record, by TensorFlow's parser."""
    *_, payload = (body.tobytes() for _, body in walk(contents[name], int(number)))
    context, lists = tf.io.parse_single_sequence_example(
        payload,
        {"labels": tf.io.VarLenFeature(tf.int64)},
        {"audio_embedding": tf.io.FixedLenSequenceFeature([], tf.string)},
    )
    frames = tf.io.decode_raw(lists["audio_embedding"], tf.uint8).numpy()
    return set(tf.sparse.to_dense(context["labels"]).numpy().tolist()), frames


def walk(content, last):
    """(index, payload) of the records up to `last`, by the lengths in their headers."""
    start = 0
    for index in range(last + 1):
        size = int.from_bytes(content[start : start + 8], "little")
        yield index, np.frombuffer(content[start + 12 : start + 12 + size], np.uint8)
        start += size + 16


def test_an_archive_that_lies_there_is_taken_and_unpacked_once(server, archive, tmp_path):
    cache = tmp_path / "downloads" / "audioset"
    cache.mkdir(parents=True)
    (cache / "features.tar.gz").write_bytes(archive)
    result = steps.build_dataset(CONFIG, tmp_path)
    assert server.requests == [] and result["shards"] == len(FILES)
    (cache / "features.tar.gz").unlink()
    audioset.fetch(result.folder / "records" / "frame", cache=cache)  # as a killed step does, called again
    assert server.requests == []


def test_the_balanced_part_alone_as_a_local_folder(contents, tmp_path):
    for name in ("bal_train/00", "eval/00"):
        path = tmp_path / "audioset_v1_embeddings" / f"{name}.tfrecord"
        path.parent.mkdir(parents=True)
        path.write_bytes(contents[name])
    config = dataclasses.replace(CONFIG, source="local", local_folder=str(tmp_path / "audioset_v1_embeddings"))
    for step in steps.STEPS[:3]:
        result = step(config, tmp_path / "workspace")
    assert result["videos"] == {"train": 20, "validation": 14, "test": 0}
    assert result.table("shards")["shard"].tolist() == ["bal_train/00", "eval/00"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda packed: packed[: len(packed) // 2], "cannot be unpacked"),
        (lambda packed: packed[:1000] + bytes(1000) + packed[2000:], "cannot be unpacked"),
        (lambda packed: b"<html>please log in</html>", "cannot be unpacked"),
        (lambda packed: pack({"bal_train.tfrecord": b"x", "train/00.tfrecord": b"x"}), "no records in bal_train"),
        (lambda packed: pack({"a/eval/00.tfrecord": b"x", "b/eval/00.tfrecord": b"x"}), "has eval/00.tfrecord twice"),
        (
            lambda packed: pack({"eval/00.tfrecord": bytes(10**6), "eval/01.tfrecord": b"x"}),
            "the 1000000 bytes allowed",
        ),
    ],
)
def test_another_archive_is_refused_and_leaves_nothing(archive, tmp_path, spoil, words):
    path, folder = tmp_path / "features.tar.gz", tmp_path / "records" / "frame"
    path.write_bytes(spoil(archive))
    with pytest.raises(archives.ArchiveError, match=words):
        audioset._unpack(path, folder, max_bytes=10**6)
    assert not folder.exists()
    path.write_bytes(archive)
    audioset._unpack(path, folder, max_bytes=10**6)
    found = {file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.tfrecord")}
    assert found == set(FILES) and [file.name for file in folder.parent.iterdir()] == ["frame"]


def test_only_plain_files_leave_the_archive_and_none_leaves_the_folder(tmp_path):
    names = {
        "../../eval/00.tfrecord": b"x",
        "/eval/01.tfrecord": b"y",
        "eval/../../02.tfrecord": b"z",
        "eval/03.tfrecord": None,
    }
    (tmp_path / "a.tar.gz").write_bytes(pack(names))
    audioset._unpack(tmp_path / "a.tar.gz", tmp_path / "in" / "frame", max_bytes=10)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if not path.is_dir()}
    assert files == {"a.tar.gz", "in/frame/eval/00.tfrecord", "in/frame/eval/01.tfrecord"}


def test_why_the_shared_unpacker_is_not_used(archive, tmp_path):
    (tmp_path / "features.tar.gz").write_bytes(archive)
    with pytest.raises(archives.ArchiveError, match="two members of one name"):
        archives.extract(tmp_path / "features.tar.gz", tmp_path / "out", max_bytes=10**6)


def test_the_official_sides():
    files = [f"somewhere/{name}.tfrecord" for name in FILES]
    sides = splits.split_shards(files[::-1], rule="official")
    assert sides == splits.split_shards(files, rule="paper") and sides["test"] == []
    assert {path.parent.name for path in sides["train"]} == {"bal_train", "unbal_train"} and len(sides["train"]) == 5
    assert [path.as_posix() for path in sides["validation"]] == [
        "somewhere/eval/00.tfrecord",
        "somewhere/eval/Em.tfrecord",
    ]
    for names, words in [
        (["a/eval/00.tfrecord", "b/eval/00.tfrecord"], "a/eval/00.tfrecord and b/eval/00.tfrecord are the same shard"),
        (["eval/000.tfrecord"], "no YouTube-8M file: received '000.tfrecord'"),
        (["other/00.tfrecord"], "or AudioSet's folders bal_train, unbal_train, eval"),
    ]:
        with pytest.raises(ValueError, match=words):
            splits.split_shards(names)


def test_the_manifests_numbers_agree_with_the_code():
    manifest = manifests.load_manifest("audioset")
    assert set(manifest.counts["segments"]) == set(audioset.FOLDERS)
    segments = sum(manifest.counts["segments"].values())
    assert manifest.file("features.tar.gz").unpacked_size > segments * (
        10 * 128 + 300
    )  # frames, and the rest of a record
