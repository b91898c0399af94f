"""A clip of one's own -> the word that its lips say, as the network hears it; see `helpers.course.tryout`."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd

from helpers import intake, plots, runtime, video, workspace
from helpers.course import tryout, weights
from helpers.course.tryout import Answer
from helpers.drawing import files
from helpers.lip_reading import evaluation, faces, runs
from helpers.lip_reading.config import LipReadingConfig
from helpers.lip_reading.mini import dataset
from helpers.lip_reading.sources import local

ROWS, COLUMNS = 4, 8  # of the strip of lips
USUAL = (1.0, 5.0)  # seconds of a clip with one word; the drawn ones have 2.0 to 2.6
DRAWN = (
    "The network: trained on drawn faces alone, which say {} words. A real face is something else to it: it names one of these "
    "words for any mouth, a yawn included, and what it names there says nothing about the lips."
)


def answer(
    path: Path,
    network: keras.Model | None = None,
    *,
    config: LipReadingConfig | None = None,
    words: list[str] | None = None,
) -> Answer:
    """Read a clip in which one face says one word: the face is found in each frame, the rest is what step preprocess does.

    Args:
        network: of one's own training, with its `config` and its `words` in order; None is the published one.

    Returns:
        A picture: the lips as the network sees them beside its five surest words; and the table word, probability.

    Raises:
        FileNotFoundError, ValueError: see `tryout.kind_of`; or a face in too few frames; says in which and what to do.
        manifests.DownloadError: the face detector (0.2 MB) could not be had; says what to do by hand.
    """
    path = Path(path)
    tryout.kind_of(path, intake.VIDEO)
    about = "The network: one that you trained."
    if network is None:
        network, config, words = runs.load_published(), weights.settings("lip_reading"), runs.published_words()
        about = DRAWN.format(len(words))
    points, notes = _points(path, config)
    guesses, seen = evaluation.read_file(network, path, config, words, points=points)
    guesses["word"] = guesses["word"].map(local.phrase)
    first, *others = (f"{row.word} {row.probability:.2f}" for row in guesses.itertuples())
    text = [f"{path.name} is read as {first}; less sure: {', '.join(others)}", *filter(None, notes), about]
    return Answer("picture", text, picture=_draw(seen, guesses), table=guesses)


def _points(path: Path, config: LipReadingConfig) -> tuple[np.ndarray | None, list[str]]:
    """Points (T, 5, 2) of the face in every frame, NaN where it is not, and what is odd; None where nothing is to be found."""
    timing = video.read_timing(path)
    seconds = timing.times[-1] - timing.times[0] + 1 / timing.fps
    notes = [timing.note]
    if not USUAL[0] <= seconds <= USUAL[1]:
        cut = "cut a clip of about 2 s around the word"
        notes.append(f"{path.name} lasts {seconds:.1f} s and is read as one word: {cut}")
    if config.lips != "detect":
        return None, notes
    detector, model = faces.find_detector(config, downloads := workspace.open_workspace().downloads)
    drawn = _drawn_points(path) if detector == "drawn points" else None
    if drawn is None:
        model = model or faces.fetch_model(downloads / "yunet")
        options = {"total": len(timing.times), "label": "looking for the face", "unit": "frame"}
        frames = runtime.progress(video.read_frames(path), **options)
        drawn, note = faces.follow_face(faces.find_faces(frame, model) for frame in frames)
        notes.append(note)
    _check(path, drawn, config.min_found)
    return drawn, notes


def _drawn_points(path: Path) -> np.ndarray | None:
    """The true points of a clip of the drawn data set, which stand in a table above it."""
    for root in path.resolve().parents:
        if (root / files.POINTS).is_file():
            return dataset.read_points(root).get(path.resolve().relative_to(root).as_posix())
    return None


def _check(path: Path, points: np.ndarray, least: float) -> None:
    """Raise where the face is in too few frames."""
    found = faces.found_mask(points)
    if found.any() and found.mean() >= least:
        return
    gaps = [f"{first} to {end - 1}" if end - first > 1 else f"{first}" for first, end in faces.gaps(found)]
    gaps = ", ".join([*gaps[:3], *["..."] * (len(gaps) > 3)])
    raise ValueError(
        f"{path.name}: a face was found in {found.sum()} of {len(found)} frames, needed are {least:.0%}; there is none in frames "
        f"{gaps}. Take a clip of one whole face, near, from the front and in good light (in a mouth alone no face is found)"
    )


def _draw(seen: np.ndarray, guesses: pd.DataFrame) -> np.ndarray:
    """The lips as the network sees them, (T, H, W, C), row by row, beside a bar for each guess."""
    picked = np.linspace(0, len(seen) - 1, ROWS * COLUMNS).round().astype(int)
    cells = [np.pad(seen[number], ((1, 1), (1, 1), (0, 0)), constant_values=255) for number in picked]
    rows = [np.concatenate(cells[start : start + COLUMNS], axis=1) for start in range(0, len(cells), COLUMNS)]
    made, ((left, right),) = plots.figure(1, 2, 9, 3.0)
    left.imshow(np.concatenate(rows), cmap="gray", vmin=0, vmax=255)
    left.set(title="the lips as the network sees them, row by row")
    left.axis("off")
    left.set_anchor("N")  # both titles in one line
    bars = right.barh(guesses["word"], guesses["probability"], color=plots.PALETTE[0])
    right.bar_label(bars, fmt="%.2f", padding=3)
    right.set(xlim=(0, 1.12), xlabel="probability", title="the surest words")
    right.invert_yaxis()
    return plots.as_array(made)
