"""What several files of tests share."""

import pytest

from helpers.circulant_video.mini import dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A mini data set of two shards, frame and video level."""
    path = tmp_path_factory.mktemp("mini")
    dataset.make_dataset(path, shards={"train0000": 30, "train0001": 20, "test0000": 5})
    return path
