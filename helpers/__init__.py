"""The course's package: a folder for each project, and what all projects share.

config      settings: how a YAML file is read, and the fields that every project has
runtime     the machine: devices, the error where a GPU is missing, seeds, progress bars, memory
workspace   steps, their folders and locks; what outlives the machine
training    `fit`, checkpoints, several GPUs, SIGTERM, the mirror of the log
batches     order and chance of a training's batches
fetch       downloads and how long they insist, archives, large tables
intake      the user's own files: what they are, and why one is not used
parallel    many items in processes; cluster: on many machines
video, pictures, plots, drawing   films and moving clips, picture files, figures, and the pens of the drawn data
estimates   what a step takes, computed beforehand
course      the runner, notebook files, the site

`helpers.__version__` is the version that pyproject.toml states.
"""


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module 'helpers' has no attribute {name!r}")
    import tomllib
    from pathlib import Path

    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["project"]["version"]
