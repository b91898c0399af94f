"""Fields that a step declares are fields that it reads: no other name may stand in a folder's hash.

It looks at the results of mini in the session's workspace, which the notebooks make; alone it makes them, in minutes.
"""

import importlib
import json
import os

import pytest

from helpers import runtime

runtime.quiet_start()

from helpers import config, workspace
from helpers.course.notebooks import PROJECTS
from helpers.workspace import MARKER

NOT_ON_MINI = {  # what a step reads only on genuine data, on a folder of one's own, or with a discriminator
    "temporal_coherence": {"fold", "local_folder"},
    "circulant_video": {"local_folder", "shard_of", "shard_part"},
    "boat_detection": {"local_folder", "subsets"},
    "lip_reading": {"grid_clips", "grid_margin", "grid_slot", "grid_speakers", "layout", "path_to_dataset"},
    "face_animation": {"actors", "discriminator_keypoints", "local_folder", "spectral_norm", "test_actors"},
}


@pytest.mark.parametrize("project", PROJECTS)
def test_what_is_declared_is_read(project, tmp_path):
    place = workspace.Workspace(tmp_path if "COURSE_WORKSPACE" not in os.environ else workspace.open_workspace().root)
    steps = importlib.import_module(f"helpers.{project}.steps").STEPS
    settings = config.load(runtime.repo_root() / "notebooks" / project / "mini.yaml", config.schema_of(project))
    results = workspace.ensure(steps, "evaluate", settings, place).values()
    markers = [json.loads((result.folder / MARKER).read_text()) for result in results]
    read = {name for marker in markers for name in marker["read"]}
    declared = {name for marker in markers for name in marker["config"]}
    assert declared - read == NOT_ON_MINI.get(project, set())
