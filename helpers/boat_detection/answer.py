"""A photo or a clip of one's own -> boxes on it; see `helpers.course.tryout`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import intake, pictures, runtime, video, workspace
from helpers.boat_detection import data, drawing, runs
from helpers.boat_detection.evaluation import postprocess
from helpers.boat_detection.evaluation.finders import NMS, Finder, build_finder
from helpers.boat_detection.formats.darknet import builder, cfg_files, networks
from helpers.boat_detection.metrics.overlap import CORNERS, scaled
from helpers.boat_detection.sources import published
from helpers.course import tryout, weights
from helpers.course.tryout import Answer
from helpers.fetch import manifests

COCO = {"coco": ("yolov3", "yolov3-tiny"), "yolov3": ("yolov3",)}  # the first that is there, else the last is fetched
MINI = "mini"
CONFIDENCE, SIZE = 0.25, 416  # Darknet's, for looking; of COCO's networks
RATE, SECONDS = 8, 30  # of a clip: at most so many frames a second are looked at, and so many seconds
BATCH = 8  # frames
SMALL, LARGE, MOVING = 600, 1280, 640  # pixels: smaller pictures are enlarged, larger ones shrunk, those of a clip more
DRAWN = (
    "The network: the course's own, trained on drawn harbours alone. A photo is something else to it: what it finds there, and "
    "what it misses, says nothing about boats."
)
PHOTOS = (
    "The network: Darknet's {}, trained on the photos of COCO; of its 80 classes only boat is asked for. It has never seen a "
    "drawing, and boats of a few pixels are beyond it."
)


def answer(
    path: Path, network: Finder | None = None, *, weights: str | None = None, confidence: float = CONFIDENCE
) -> Answer:
    """Find the boats on a photo, or on the frames of a clip (its first 30 seconds, 8 frames of each).

    Args:
        network: of one's own training, see `finders.load_finder`.
        weights: without `network`: "mini" are the course's own, "coco" those that Darknet's authors publish, fetched if they are
            not there, "yolov3" the largest of them (248 MB); None is "coco" if a file of it is there already, else "mini".
        confidence: score from which a box is shown.

    Returns:
        A picture or a clip, with a table of its boxes: image (a frame's number), class, score, x1, y1, x2, y2 in pixels.

    Raises:
        FileNotFoundError, ValueError: see `tryout.kind_of`; or unknown weights.
        manifests.DownloadError: the weights could not be had; says what to do by hand.
    """
    path, kind = Path(path), tryout.kind_of(path, intake.PICTURE, intake.VIDEO)
    finder, about = (network, "The network: one that you trained.") if network else _choose(weights)
    if kind == intake.VIDEO:
        return _on_clip(path, finder, confidence, about)
    photo = data.read_image(path)
    found = finder.look([photo], threshold=confidence)
    found, shape = scaled(found, photo.shape[1::-1]), f"{photo.shape[1]} x {photo.shape[0]} pixels"
    text = [f"{_count(len(found))} in {path.name} ({shape}), certainty above {confidence:g}", *_lines(found), about]
    return Answer("picture", text, picture=_draw(photo, found), table=found)


def _choose(name: str | None) -> tuple[Finder, str]:
    """The finder with these weights, and the sentence on what it was trained on."""
    if name not in (None, MINI, *COCO):
        raise ValueError(f"weights: received {name!r}; allowed: {MINI}, {', '.join(COCO)}")
    downloads = workspace.open_workspace().downloads
    options = COCO.get(name or "coco", ())
    here = next((network for network in options if _is_there(f"{network}.weights", downloads)), None)
    if network := here or (options[-1] if name in COCO else None):
        return _coco(network, downloads), PHOTOS.format(network)
    network = runs.load_published()
    return build_finder(weights.settings("boat_detection"), network.cfg, network), DRAWN


def _is_there(name: str, downloads: Path) -> bool:
    """Whether a file of Darknet's authors is in `downloads`, whole."""
    try:
        manifests.load_manifest("darknet").file(name).check(downloads / name)
    except manifests.SourceFailed:
        return False
    return True


def _coco(network: str, downloads: Path) -> Finder:
    """COCO's network, of its classes boat alone."""
    options = {"masks": networks.TINY_MASKS} if network == "yolov3-tiny" else {}
    cfg = cfg_files.parse_cfg(networks.WRITERS[network](1, **options), network)
    model = builder.build_from_cfg(cfg)
    published.load_published(model, network, "coco", downloads)
    return Finder(model, cfg, size=SIZE, resize="letterbox", nms=NMS)


def _on_clip(path: Path, finder: Finder, confidence: float, about: str) -> Answer:
    timing = video.read_timing(path)
    seconds = timing.times[-1] - timing.times[0] + 1 / timing.fps
    rate = min(RATE, timing.fps)
    numbers = timing.shown(timing.times[0] + np.arange(0, min(seconds, SECONDS) - 1e-6, 1 / rate))
    drawn, tables = [], []
    for some, frames in _batches(path, sorted(set(numbers.tolist()))):
        found = finder.look(frames, names=some, threshold=confidence)
        for number, frame in zip(some, frames, strict=True):
            tables.append(scaled(found[found["image"] == number], frame.shape[1::-1]))
            drawn.append(_draw(frame, tables[-1], MOVING))
    counts = np.array([len(table) for table in tables])
    most = f", up to {counts.max()} at once" if counts.any() else ""
    looked = (
        f"{len(drawn)} of {len(timing.times)} frames of {path.name}, {min(seconds, SECONDS):.1f} of its {seconds:.1f} s"
    )
    text = [
        f"boats in {np.count_nonzero(counts)} of {len(counts)} frames{most}, certainty above {confidence:g}",
        f"looked at: {looked}; each frame for itself, so boxes may flicker",
        about,
    ]
    found = postprocess.join_tables(tables)
    return Answer("clip", text, frames=np.stack(drawn), fps=rate, table=found)


def _batches(path: Path, numbers: list[int]) -> Iterator[tuple[list[int], list[np.ndarray]]]:
    """Numbers and pictures of these frames, a few at a time, with a bar of progress."""
    wanted, some = set(numbers), {}
    with runtime.progress(total=len(numbers), label="looking for boats", unit="frame") as bar:
        for number, frame in video.scan_frames(path, wanted.__contains__):
            if frame is not None:
                some[number] = frame
            if some and (len(some) == BATCH or number == numbers[-1]):
                yield [*some], [*some.values()]
                bar.update(len(some))
                some = {}
            if number == numbers[-1]:
                return


def _draw(picture: np.ndarray, found: pd.DataFrame, largest: int = LARGE) -> np.ndarray:
    """Boxes with their scores, on a picture of a size at which both can be read."""
    shrink = max(1.0, max(picture.shape[:2]) / largest)
    picture = pictures.shrink(picture, shrink)
    scale = max(1, SMALL // max(picture.shape[:2]))
    return drawing.draw_boxes(
        picture, found[CORNERS].to_numpy() / shrink, found["score"].to_numpy(), scale=scale, name="boat"
    )


def _count(boats: int) -> str:
    return f"{boats or 'no'} boat{'s' * (boats != 1)}"


def _lines(found: pd.DataFrame) -> list[str]:
    """The boxes as a table of text, the surest first; nothing where there are none."""
    if not len(found):
        return []
    corners = found[CORNERS].round().astype(int)
    rows = corners.assign(score=found["score"].map("{:.2f}".format), **{"class": "boat"})
    return rows[["class", "score", *CORNERS]].to_string(index=False).splitlines()
