"""Finds five points of a face in a picture, by YuNet (a file of 0.2 MB), and follows them through a clip."""

import os
import threading
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from helpers import intake, pictures, runtime, workspace
from helpers.fetch import manifests
from helpers.lip_reading.config import LipReadingConfig

POINTS = ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth")  # YuNet's order; right is the person's right
LONG_SIDE = 320  # pixels: larger pictures are shrunk to it, which finds the same faces in a tenth of the time
SCORE = 0.7
LIKE = 0.6  # of the followed face's width: such a face can be taken for it
SMOOTHING = 5  # frames of the running median


def find_face_points(frame: np.ndarray, model_path: str | os.PathLike | None = None) -> np.ndarray | None:
    """Eyes, nose and corners of the mouth of the widest face, (5, 2) float32 x, y in pixels in the order of `POINTS`, or None.

    Takes and raises what `find_faces` does.
    """
    found = find_faces(frame, model_path)
    return found[np.argmax(_widths(found)), 2:] if len(found) else None


def find_faces(frame: np.ndarray, model_path: str | os.PathLike | None = None) -> np.ndarray:
    """All faces of a picture.

    Args:
        frame: (H, W, 3) RGB uint8.
        model_path: the ONNX file of YuNet; by default the one that `fetch_model` keeps, which is downloaded if need be.

    Returns:
        (N, 7, 2) float32 x, y in pixels: two corners of each face's box, then its points in the order of `POINTS`.

    Raises:
        ValueError: not an RGB uint8 picture, or a file that is no detector; says what it is.
        FileNotFoundError: no file at `model_path`.
        RuntimeError: this OpenCV is too old for it, or the model could not be downloaded.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise ValueError(f"frame must be RGB uint8 (H, W, 3). Received: shape {frame.shape}, {frame.dtype}")
    model_path = _default_model() if model_path is None else model_path
    small = pictures.shrink(frame, max(frame.shape[:2]) / LONG_SIDE)
    size = small.shape[1::-1]  # OpenCV wants (width, height)
    detector = _detector(str(model_path), threading.get_ident())
    detector.setInputSize(size)
    faces = detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
    if faces is None:
        return np.zeros((0, 7, 2), np.float32)
    faces[:, 2:4] += faces[:, :2]  # x, y, width, height, five points, score
    points = faces[:, :14].reshape(-1, 7, 2) + 0.5  # a pixel's middle stays its middle
    return (points * np.array(frame.shape[1::-1]) / size - 0.5).astype(np.float32)


def follow_face(found: Iterable[np.ndarray]) -> tuple[np.ndarray, str]:
    """Follow one face through a clip: the one that is largest, summed over the frames. Where it is not seen, another is taken
    only if the two are never seen at once, since then it can be the same one elsewhere.

    From what `find_faces` gives of T frames to (T, 5, 2) float32 points, NaN where the face is not; and "" or a note that there is
    another of like size.
    """
    paths: list[dict[int, np.ndarray]] = []  # of each face: number of a frame -> the face there
    count = 0
    for count, faces in enumerate(found, 1):
        for path, face in _linked(paths, faces):
            path[count - 1] = face
    points = np.full((count, 5, 2), np.nan, np.float32)
    paths.sort(key=lambda path: -_widths(np.stack([*path.values()])).sum())
    followed: dict[int, np.ndarray] = {}
    for path in paths:
        if not followed.keys() & path.keys():
            followed |= path
    for number, face in followed.items():
        points[number] = face[2:]
    return points, _others(paths)


def _linked(paths: list[dict[int, np.ndarray]], faces: np.ndarray) -> list[tuple[dict, np.ndarray]]:
    """Each face with the path whose last face lies nearest, closer than the face is wide; the others begin new paths."""
    last = [[*path.values()][-1] for path in paths]
    near = sorted(
        (float(np.hypot(*(face[:2] - one[:2]).mean(axis=0)) / _widths(face[None])[0]), place, number)
        for place, one in enumerate(last)
        for number, face in enumerate(faces)
    )
    linked: dict[int, int] = {}  # face -> path
    for apart, place, number in near:
        if apart < 1 and number not in linked and place not in linked.values():
            linked[number] = place
    for number in sorted(set(range(len(faces))) - linked.keys()):
        linked[number] = len(paths)
        paths.append({})
    return [(paths[place], faces[number]) for number, place in linked.items()]


def _others(paths: list[dict[int, np.ndarray]]) -> str:
    """A note where another face is as large as the followed one, or nearly, in a tenth of its frames or more."""
    sizes = [float(np.median(_widths(np.stack([*path.values()])))) for path in paths]
    often = [len(path.keys() & paths[0].keys()) > 0.1 * len(paths[0]) for path in paths]
    like = sum(size > LIKE * sizes[0] and seen for size, seen in zip(sizes[1:], often[1:], strict=True))
    said = f"{1 + like} faces of like size in the picture: the one seen largest and longest is followed"
    return said if like else ""


def _widths(faces: np.ndarray) -> np.ndarray:
    return faces[:, 1, 0] - faces[:, 0, 0]


def find_detector(config: LipReadingConfig, downloads: Path) -> tuple[str, Path | None]:
    """How the lips are found: "yunet" with its file in `downloads`, "drawn points" (mini without the file), "cropped" or "fixed".

    manifests.DownloadError: the file could not be had; says what to do by hand.
    """
    if config.lips != "detect":
        return config.lips, None
    folder = downloads / "yunet"
    if config.source == "mini":  # never asks the network
        path = local_model(folder)
        return ("yunet" if path else "drawn points"), path
    return "yunet", fetch_model(folder)


def fetch_model(folder: str | os.PathLike | None = None) -> Path:
    """YuNet's file, checked by size and sha256, downloaded if it is not there, by default to `downloads/yunet` of the workspace.

    manifests.DownloadError: it could not be had; says what to do by hand.
    """
    folder = workspace.open_workspace().downloads / "yunet" if folder is None else folder
    return manifests.fetch(_entry(), folder)


def local_model(folder: Path) -> Path | None:
    """YuNet's file if it is there already and sound; never asks the network."""
    path = folder / _entry().name
    try:
        _entry().check(path)
    except manifests.SourceFailed:
        return None
    return path


def stack_points(points: Iterable[np.ndarray | None]) -> np.ndarray:
    """Face points frame by frame as one array (T, 5, 2) float32, NaN where none were found."""
    missing = np.full((5, 2), np.nan, np.float32)
    rows = [missing if found is None else np.asarray(found, np.float32) for found in points]
    return np.stack(rows) if rows else np.zeros((0, 5, 2), np.float32)


def found_mask(points: np.ndarray) -> np.ndarray:
    """(T,) bool: True where the points of a frame are known."""
    return np.isfinite(points).all(axis=(1, 2))


def gaps(found: np.ndarray) -> np.ndarray:
    """The stretches (N, 2) of frames without a face, the first one and the one behind the last, from `found_mask`."""
    return np.flatnonzero(np.diff(~found, prepend=False, append=False)).reshape(-1, 2)


def track_points(points: np.ndarray) -> np.ndarray:
    """Fill gaps and smooth: lines between neighbours, copies at the ends, then a running median of 5 frames.

    Gives (T, 5, 2) float32 without gaps; ValueError where there is no face in any frame.

    The median drops single wrong faces and leaves steady motion as it is.

    Args:
        points: (T, 5, 2) with NaN where no face was found.
    """
    found = found_mask(points)
    if not found.any():
        raise ValueError(f"points: received {len(points)} frames without a face; allowed: at least one with a face")
    times, known = np.arange(len(points)), np.flatnonzero(found)
    columns = points.reshape(len(points), -1).astype(np.float64).T
    filled = np.stack([np.interp(times, known, column[known]) for column in columns], axis=1)
    margin = SMOOTHING // 2
    padded = np.pad(filled, ((margin, margin), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, SMOOTHING, axis=0)
    return np.median(windows, axis=-1).reshape(points.shape).astype(np.float32)


def statistics(points: np.ndarray) -> dict[str, float]:
    """What a detector found in a clip, from points (T, 5, 2), NaN where no face was.

    Returns frames, found, share, longest_gap (frames), eye_distance (median, pixels), tilt (median of the line through the eyes,
    degrees), jitter (median move of the mouth between two frames, in eye distances); NaN where nothing can be told.
    """
    found = found_mask(points)
    gap = int(np.max(np.diff(gaps(found)), initial=0))
    row = {"frames": len(points), "found": int(found.sum()), "share": float(found.mean()) if len(points) else 0.0}
    row |= {"longest_gap": gap, "eye_distance": np.nan, "tilt": np.nan, "jitter": np.nan}
    if found.any():
        eyes = (points[:, 1] - points[:, 0])[found]
        row["eye_distance"] = float(np.median(np.hypot(*eyes.T)))
        row["tilt"] = float(np.degrees(np.median(np.arctan2(eyes[:, 1], eyes[:, 0]))))
    if (found[1:] & found[:-1]).any():
        moves = np.hypot(*np.diff(points[:, 3:].mean(axis=1), axis=0)[found[1:] & found[:-1]].T)
        row["jitter"] = float(np.median(moves) / row["eye_distance"])
    return row


def _entry() -> manifests.File:
    return manifests.load_manifest("yunet").files[0]


@lru_cache(1)
def _default_model() -> Path:
    """The path of the model, downloaded once in a process."""
    return fetch_model()


@lru_cache(8)
def _detector(path: str, thread: int) -> "cv2.FaceDetectorYN":
    """A detector of one thread's own: it keeps the size of the picture between calls."""
    if not hasattr(cv2, "FaceDetectorYN"):
        raise RuntimeError(
            f"OpenCV {cv2.__version__} has no FaceDetectorYN, so no face can be found; expected 4.5.4 or newer: "
            "pip install -U opencv-python-headless, or choose lips: fixed with a window"
        )
    if not Path(path).is_file():
        raise FileNotFoundError(f"no face detector at {path}: fetch it with faces.fetch_model()")
    with runtime.quiet_stderr():  # OpenCV 5 warns of a target that nobody set, and its parser shouts at broken files
        try:
            return cv2.FaceDetectorYN.create(path, "", (LONG_SIDE, LONG_SIDE), SCORE)
        except cv2.error as error:
            reason = str(error).splitlines()[0]
    expected = f"the face detector of {_entry().size} bytes: remove {path}, call faces.fetch_model()"
    raise intake.refuse(path, expected, reason)
