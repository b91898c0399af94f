"""Every config file of every project loads, and mini needs neither network nor GPU."""

import pytest

from helpers import config, runtime

FILES = sorted(runtime.repo_root().glob("notebooks/*/*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_config_files_load_and_their_table_fits_a_page(path):
    settings = config.load(path, config.schema_of(path.parent.name))
    meanings = config.table(settings)["meaning"]
    assert (meanings != "").all() and (meanings.str.len() <= 52).all()
    if path.stem in ("mini", "long"):
        assert settings.source == "mini" and settings.allow_cpu
    else:
        assert settings.source != "mini" and not settings.allow_cpu


def test_every_project_has_the_four():
    projects = {path.parent for path in FILES}
    assert projects and all(
        {p.stem for p in folder.glob("*.yaml")} == {"mini", "long", "t4", "full"} for folder in projects
    )


@pytest.mark.parametrize(
    "project, change, words",
    [
        ("temporal_coherence", "source: local", ["local_folder: missing", "split_by: received 'official'"]),
        ("temporal_coherence", "step: 3", ["gap: received 4, more than step (3)"]),
        ("temporal_coherence", "fold: 2", ["fold: received 2 with source: mini"]),
        ("temporal_coherence", "loss: triplet", ["loss: received 'triplet'", "contrastive"]),
        ("circulant_video", "source: local", ["local_folder: missing"]),
        ("circulant_video", "feature_sizes: [64]", ["feature_sizes: received 1 for 2 feature_names"]),
        ("circulant_video", "experiments: []", ["experiments: received none"]),
        ("circulant_video", "experiments: [diagnal]", ["experiments", "did you mean diagonal?"]),
        ("face_animation", "source: voxceleb", ["local_folder: missing", "your own copies of the videos"]),
        ("face_animation", "actors: [3, 3]", ["actors: received [3, 3]", "every actor once"]),
        ("face_animation", "actors: [0, 25]", ["actors: received [0, 25]", "at least 1, at most 24"]),
        ("face_animation", "test_actors: 8", ["test_actors: received 8 with 8 actors", "fewer than actors"]),
        ("face_animation", "group_size: 10", ["group_size: received 10 with n_groups 2", "exactly one of the two"]),
        ("face_animation", "group: 2", ["group: received 2", "0 to n_groups - 1"]),
        (
            "face_animation",
            "checkpoint: vox.pth.tar",
            ["checkpoint: received with variants", "network tiny64", "[fomm]"],
        ),
        ("face_animation", "milestones: [6, 6]", ["milestones: received [6, 6]", "growing"]),
        ("face_animation", "variants: [unet, unet]", ["variants: received ['unet', 'unet']", "each once"]),
    ],
)
def test_what_does_not_fit_together_is_told(tmp_path, project, change, words):
    lines = (runtime.repo_root() / "notebooks" / project / "mini.yaml").read_text(encoding="utf-8").splitlines()
    key = change.split(":")[0]
    path = tmp_path / "own.yaml"
    path.write_text("\n".join([line for line in lines if not line.startswith(f"{key}:")] + [change]), encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        config.load(path, config.schema_of(project))
    assert all(word in str(caught.value) for word in words)
