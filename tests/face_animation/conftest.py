"""Clips of a few pictures that several test files read."""

import numpy as np
import pandas as pd
import pytest

from helpers.face_animation.sources import local


@pytest.fixture
def clips(tmp_path):
    """Three clips of unlike length below tmp_path, and their table."""
    found = {
        f"{count}.mp4": np.random.default_rng(count).integers(0, 256, (count, 16, 16, 3), np.uint8)
        for count in (2, 9, 5)
    }
    for name, clip in found.items():
        local.write_folder(tmp_path / "test" / name, clip)
    table = pd.DataFrame({"clip": list(found), "path": [f"test/{name}" for name in found], "frames": [2, 9, 5]})
    return found, table
