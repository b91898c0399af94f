"""Videos out of converted files, and the batches of them."""

from pathlib import Path

import numpy as np
import pytest

from helpers import runtime

runtime.quiet_start()


from helpers import training
from helpers.circulant_video import batches, data
from helpers.circulant_video.formats import examples, tfrecord
from helpers.circulant_video.mini import dataset

DAMAGES = {1: "checksum", 3: "length", 5: "width", 7: "label", 9: "empty", 25: "cut"}
SMALL = {"feature_names": ("rgb", "audio"), "feature_sizes": (64, 16), "classes": 24, "max_frames": 300}
SHARED = runtime.repo_root().parent / "shared" / "data"


def read(path, **options):
    """All videos and the table of problems."""
    problems = []
    return list(data.read_frame_level(path, **{**SMALL, "problems": problems, **options})), problems


# --- converted files ---


@pytest.fixture(scope="module")
def videos(folder, tmp_path_factory):
    """Both training shards, converted."""
    target = tmp_path_factory.mktemp("cache")
    for name in ("train0000", "train0001"):
        data.convert_shard(folder / "frame" / f"{name}.tfrecord", target, **SMALL)
    return batches.Videos(target, ["train0001", "train0000"])


def test_converted_videos_are_those_of_the_files(folder, videos):
    expected = [
        video for name in ("train0001", "train0000") for video in read(folder / "frame" / f"{name}.tfrecord")[0]
    ]
    assert list(videos.ids) == [video["id"] for video in expected]
    assert (videos.labels(range(50)) == np.stack([video["labels"] for video in expected])).all()
    shares = np.mean([video["labels"] for video in expected], axis=0, dtype=np.float32)
    np.testing.assert_array_equal(videos.label_shares(), shares, strict=True)
    for row, video in enumerate(expected):
        assert (videos.frames(row) == np.concatenate([video["rgb"], video["audio"]], axis=1)).all()


def test_conversion_runs_once_counts_problems_and_refuses_a_file_without_videos(folder, tmp_path):
    bad = dataset.damage_records(folder / "frame" / "train0000.tfrecord", tmp_path / "train0009.tfrecord", DAMAGES)
    row = data.convert_shard(bad, tmp_path / "cache", **SMALL)
    assert (row["shard"], row["videos"], len(row["problems"])) == ("train0009", 20, 6)
    written = (tmp_path / "cache" / "train0009.frames").stat()
    assert written.st_size == 80 * row["frames"]
    assert data.convert_shard(bad, tmp_path / "cache", **SMALL) == row
    assert (tmp_path / "cache" / "train0009.frames").stat().st_mtime_ns == written.st_mtime_ns
    assert (
        data.convert_shard(bad, tmp_path / "cache", **{**SMALL, "max_frames": 5})["frames"] == 100
    )  # other settings: anew
    with pytest.raises(
        ValueError, match=r"train0000.tfrecord: none of its 30 records can be used: rgb: frame 0 has 64 bytes"
    ):
        data.convert_shard(
            folder / "frame" / "train0000.tfrecord", tmp_path / "cache", **{**SMALL, "feature_sizes": (1024, 128)}
        )
    with pytest.raises(FileNotFoundError, match="not converted yet: train0000"):
        batches.Videos(tmp_path / "cache", ["train0009", "train0000"])


@pytest.mark.parametrize(
    ("frames", "counts"),
    [(300, [150, 150]), (299, [150, 149]), (7, [4, 3]), (1, [1, 0]), (0, [0, 0]), (400, [150, 150])],
)
def test_sizes_of_halves(frames, counts):
    halves, found = batches.pad_videos([np.ones((frames, 2), np.float32)], 300, halves=True)
    assert found.tolist() == counts and halves.shape == (2, 150, 2) and halves.dtype == np.float32
    assert halves.sum(axis=(1, 2)).tolist() == [2 * count for count in counts]


def test_halves_are_neighbours_in_order_and_filled_up_with_zeros():
    videos = [np.arange(1, n + 1, dtype=np.uint8)[:, None] for n in (9, 8, 7, 12)]
    halves, _ = batches.pad_videos(videos, 9, halves=True)
    assert halves[..., 0].tolist() == [
        [1, 2, 3, 4, 5], [6, 7, 8, 9, 0], [1, 2, 3, 4, 0], [5, 6, 7, 8, 0], [1, 2, 3, 4, 0], [5, 6, 7, 0, 0],
        [1, 2, 3, 4, 5], [6, 7, 8, 9, 0],
    ]  # fmt: skip
    whole, counts = batches.pad_videos(videos, 9)
    assert whole[2:, :, 0].tolist() == [[1, 2, 3, 4, 5, 6, 7, 0, 0], list(range(1, 10))]
    assert counts.tolist() == [9, 8, 7, 9]


def test_rows_are_padded_as_videos_are(videos):
    for halves in (False, True):
        found = videos.padded([31, 4, 20], 30, halves=halves)
        for one, other in zip(
            found, batches.pad_videos([videos.frames(k) for k in (31, 4, 20)], 30, halves=halves), strict=True
        ):
            assert one.dtype == other.dtype and (one == other).all()


def test_files_of_one_name_in_two_folders_stay_apart(folder, tmp_path):
    for name, source in (("bal_train/00", "train0000"), ("eval/00", "train0001")):
        row = data.convert_shard(folder / "frame" / f"{source}.tfrecord", tmp_path, shard=name, **SMALL)
        assert row["shard"] == name
    both = batches.Videos(tmp_path, ["bal_train/00", "eval/00"])
    expected = [
        video for name in ("train0000", "train0001") for video in read(folder / "frame" / f"{name}.tfrecord")[0]
    ]
    assert list(both.ids) == [video["id"] for video in expected]
    assert all((both.frames(row)[:, :64] == video["rgb"]).all() for row, video in enumerate(expected))


def test_thousands_of_shards_need_no_thousands_of_open_files(tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(batches, "OPEN_FILES", 5)
    names = [f"train{number:04d}" for number in range(60)]
    for number, name in enumerate(names):
        features = {"rgb": np.full((number + 1, 64), 7, np.uint8), "audio": np.full((number + 1, 16), 9, np.uint8)}
        tfrecord.write_records(tmp_path / f"{name}.tfrecord", [examples.encode_frame_level("aBc1", [1], features)])
        data.convert_shard(tmp_path / f"{name}.tfrecord", tmp_path / "cache", **SMALL)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max(int(file.name) for file in Path("/dev/fd").iterdir()) + 15, limits[1])
        )
        many = batches.Videos(tmp_path / "cache", names)
        assert [len(many.frames(row)) for row in range(60)] == list(range(1, 61))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_batches_depend_on_seed_and_step_alone_and_visit_every_video_once(videos):
    feed = batches.Batches(videos, batch_size=10, length=40, halves=True, seed=1)
    assert feed.steps_per_epoch == 5
    first = [feed.batch(step) for step in range(5)]
    again = next(training.prefetch(batches.Batches(videos, batch_size=10, length=40, halves=True, seed=1).batch, 3))
    assert (again[0]["frames"] == first[3][0]["frames"]).all() and (again[1] == first[3][1]).all()
    assert first[0][0]["frames"].shape == (20, 20, 80) and first[0][1].shape == (20, 24)
    assert (first[0][1][::2] == first[0][1][1::2]).all()
    counts = sorted(n for inputs, _ in first for n in inputs["num_frames"].reshape(-1, 2).sum(axis=1))
    assert counts == sorted(videos.num_frames)
    assert (feed.batch(5)[0]["frames"] != first[0][0]["frames"]).any()
    whole = batches.Batches(videos, batch_size=3, length=40, halves=False).batch(2)[0]
    assert whole["frames"].shape == (3, 40, 80) and whole["num_frames"].shape == (3,)
    with pytest.raises(ValueError, match="allowed: 1 to 50"):
        batches.Batches(videos, batch_size=51, length=300, halves=True)
