"""A file of the learner's own through a trained network: chosen, answered by a project's room `answer`, shown and saved.

`python -m helpers try PROJECT FILE` and the last cells of 04 come here; the room holds `answer(path, network=None) -> Answer`.
"""

import base64
import dataclasses
import inspect
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from helpers import intake, pictures, runtime, video, workspace
from helpers.course import weights
from helpers.workspace import disk

FIELDS = {"picture": "picture", "clip": "frames", "table": "table"}  # kind -> the field that holds it
UPLOAD, CAMERA = "upload", "camera"
PAGE = 720  # pixels: widest picture in a notebook


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a network makes of one file; ValueError: an unknown kind, or its field is not there.

    Attributes:
        kind: "picture", "clip" or "table": which of the fields below is there.
        text: lines that say what was found, by which network, and what that network was trained on.
        picture: (H, W, 3) uint8 RGB.
        frames: (T, H, W, 3) uint8 RGB.
        table: what a picture could not say better.
    """

    kind: str
    text: Sequence[str]
    picture: np.ndarray | None = None
    frames: np.ndarray | None = None
    fps: float = 10.0
    table: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        there = [kind for kind, field in FIELDS.items() if getattr(self, field) is not None]
        if self.kind not in there:
            wanted = f"one of {', '.join(FIELDS)} and its field be set"
            raise ValueError(f"kind must be {wanted}. Received: {self.kind!r}, {there}")


def show(answer: Answer):
    """Print an answer's text and return its picture, clip or table as an object that a notebook shows when it ends a cell."""
    print(*answer.text, sep="\n")
    if answer.kind == "table":
        return answer.table
    if answer.kind == "clip":
        count, _, width, _ = answer.frames.shape
        room = max(60_000, 1_000 * count)  # bytes: what a committed notebook may hold; more for a long clip
        options = {"width": min(PAGE, width), "alt": answer.text[0], "max_bytes": room}
        return video.show_clip(answer.frames, fps=answer.fps, **options)
    from IPython.display import Image as Shown

    small = pictures.shrink(answer.picture, answer.picture.shape[1] / PAGE)
    return Shown(pictures.encode_picture(small, ".jpg", 85))


def save(answer: Answer, folder: str | Path, stem: str) -> Path:
    """Write `<stem>.png`, `.webm` (every browser plays it) or `.csv` into a folder, which is made; returns the file."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.{ {'picture': 'png', 'clip': 'webm', 'table': 'csv'}[answer.kind] }"
    if answer.kind == "table":
        disk.write_table(path, answer.table)
    elif answer.kind == "clip":
        odd = [(0, 0), *((0, side % 2) for side in answer.frames.shape[1:3]), (0, 0)]
        video.write_video(path, np.pad(answer.frames, odd, mode="edge"), answer.fps)  # VP8 wants even sides
    else:
        disk.write(path, pictures.encode_picture(answer.picture, ".png"))
    return path


def kind_of(path: str | Path, *allowed: str) -> str:
    """What a file is, if that is one of the kinds allowed (see `intake.sniff`) and a first look finds nothing wrong with it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, another kind, a picture that is cut off, a video without a frame; says what to do.
    """
    path, wanted = Path(path), " or ".join(f"a {kind}" for kind in allowed)
    if not path.exists():
        raise FileNotFoundError(f"no file {intake.shown(str(path))}: check its name, expected {wanted}")
    if path.is_dir():
        raise ValueError(f"{intake.shown(str(path))} is a folder, expected {wanted}: name one file in it")
    kind = intake.sniff(path)
    if kind not in allowed:
        raise intake.refuse(path, wanted)
    if kind == intake.VIDEO:
        video.scan_frames(path, bool).close()  # decodes the first frame
    elif kind == intake.PICTURE:
        try:  # OpenCV fills the rest of a cut picture with grey and says nothing; Pillow refuses it
            with Image.open(path) as picture:
                picture.load()
        except (OSError, SyntaxError, ValueError) as error:
            name, size = intake.shown(path.name), path.stat().st_size
            raise ValueError(
                f"{name} ({size} bytes) is cut off, damaged, or of a form that is not read here: get it again, or save it as a "
                f"JPEG ({str(error) or type(error).__name__})"
            ) from None
    return kind


def choose(path: str = "", *, example: str | Path | None = None) -> Path:
    """The file that a form's one field means.

    ValueError: "upload", "camera" or "" without an example, where there is no Colab; or nothing was uploaded.

    Args:
        path: a path; "upload" for Colab's upload; "camera" for three seconds of Colab's camera; "" for the example.
        example: the file for ""; without one, "" is Colab's upload.
    """
    path = str(path).strip().strip("\"'")
    if path == CAMERA:
        return camera()
    if path == UPLOAD or (not path and example is None):
        return _upload()
    return Path(path or example).expanduser()


def _upload() -> Path:
    _require_colab("upload", "type the path of a file")
    from google.colab import files

    sent = files.upload()
    if not sent:
        raise ValueError("nothing was uploaded: run the cell again and choose one file")
    name, content = next(iter(sent.items()))
    for each in sent:  # Colab leaves them beside the notebook
        Path(each).unlink(missing_ok=True)
    return _own_file(Path(name).name, content)


def camera(seconds: float = 3.0) -> Path:
    """Record a clip with the camera of the browser that shows this notebook in Colab; ValueError where there is none to be had."""
    _require_colab("camera", "record a clip with your phone and type the path of its file")
    from google.colab import output

    script = Path(__file__).with_name("camera.js").read_text(encoding="utf-8")
    said = str(output.eval_js(script.replace("SECONDS", f"{float(seconds):g}"), timeout_sec=120))
    found = re.match(r"data:video/(\w+)[^,]*;base64,", said)
    if not found:
        allow = "allow the camera in the browser's address bar, run the cell again"
        raise ValueError(f"the camera gave no clip ({said[:200]}): {allow}")
    return _own_file(f"camera-{time.strftime('%H%M%S')}.{found[1]}", base64.b64decode(said[found.end() :]))


def _require_colab(what: str, instead: str) -> None:
    if "google.colab" not in sys.modules:
        raise ValueError(f"{what!r} needs a notebook in Colab: here, {instead} instead")


def _own_file(name: str, content: bytes) -> Path:
    path = workspace.open_workspace().root / "own_files" / name
    disk.write(path, content)
    return path


def run(project: str, path: str | Path, out: str | Path = ".", **options: object) -> Path:
    """The command `try`: answer a file by the published network of a project, print what it says, save it, and return the file.

    FileNotFoundError or ValueError: no such file, or one that the project cannot answer; says what to do.

    Args:
        out: folder for the picture, clip or table, called `<file>-<project>`.
        **options: of the project's `answer`, such as `weights` of boats.
    """
    runtime.quiet_start()
    ask = weights.room(project, "answer").answer
    if unknown := options.keys() - inspect.signature(ask).parameters.keys():
        raise ValueError(f"{project} takes no {', '.join(f'--{name}' for name in sorted(unknown))}: leave it out")
    answer = ask(Path(path), **options)
    saved = save(answer, out, f"{Path(path).stem}-{project}")
    rows = [answer.table.to_string(index=False)] if answer.kind == "table" else []
    print(*rows, *answer.text, f"saved: {saved}", sep="\n", flush=True)
    return saved
