"""What the faces of the mini dataset say: eight words, all made of the same four mouth shapes (visemes), each once.

So only their ORDER tells the word. Each shape stands twice at each of the four places, so no single frame and no mean frame tells
the word; each word is another one played backwards, so neither do the transitions without their direction. No template tells it:
begin, tempo and the length of each shape are random, and up to two hesitations ("uh", a half-open mouth) come before, within or
after the word.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helpers.drawing.chance import generator
from helpers.lip_reading.mini.faces import SIZE, Head, Mouth, Speaker, draw_face, draw_room, draw_speaker, face_points

WORDS = {
    "about": ("wide", "closed", "round", "teeth"),
    "atop": ("wide", "teeth", "round", "closed"),
    "limbo": ("teeth", "wide", "closed", "round"),
    "lobby": ("teeth", "round", "closed", "wide"),  # about backwards
    "opal": ("round", "closed", "wide", "teeth"),  # limbo backwards
    "plow": ("closed", "teeth", "wide", "round"),
    "pony": ("closed", "round", "teeth", "wide"),  # atop backwards
    "wisp": ("round", "wide", "teeth", "closed"),  # plow backwards
}
REST = (1.0, 0.04, 1.0, 0.0, 0.0, 0.0)  # the fields of Mouth: width, opening, lips, upper and lower teeth, tongue
VISEMES = {
    "closed": (1.04, 0.0, 0.45, 0.0, 0.0, 0.0),  # lips pressed: p, b, m
    "round": (0.55, 0.30, 1.15, 0.0, 0.0, 0.0),  # lips pushed forward: o, oo, w
    "teeth": (1.04, 0.20, 0.85, 0.5, 0.42, 0.0),  # teeth together: t, l, n, s
    "wide": (1.12, 0.50, 0.90, 0.28, 0.0, 0.35),  # an open or spread vowel: a, e, i
}
HESITATION = (0.96, 0.26, 1.0, 0.0, 0.0, 0.3)  # "uh"
HESITATIONS = 2  # at most in a clip
SECONDS = (2.0, 2.6)  # of a clip
PACE = (0.11, 0.46)  # seconds for a shape, on average within a clip
RATES = (25, 25, 30, 25, 25, 60)  # frames per second, dealt out in turn over speakers, words and repeats
BROKEN = {  # drawn beside the others, for the steps to record, and to skip where nothing can be read
    "s01/about/s01_about_cut.mp4": "cut: the download ended halfway, nothing decodes",
    "s01/pony/s01_pony_away.mp4": "away: the face is out of the picture for about a third of the frames",
    "s02/opal/s02_opal_empty.mp4": "empty: an empty room, no face in any frame",
}


@dataclass(frozen=True)
class Clip:
    """What happens in a clip, frame by frame, before anything is drawn.

    Attributes:
        spans: of the word's visemes in turn, when each begins and ends in seconds, (4, 2).
        points: true face points in pixels, (T, 5, 2) float32, NaN where one of them is out of the picture.
        room: the picture without a face, (H, W, 3) uint8.
    """

    speaker: Speaker
    fps: int
    mouths: list[Mouth]
    heads: list[Head]
    spans: np.ndarray
    points: np.ndarray
    room: np.ndarray

    def frames(self) -> Iterator[np.ndarray]:
        """Draw the RGB frames, (H, W, 3) uint8."""
        for head, mouth in zip(self.heads, self.mouths, strict=True):
            yield draw_face(self.room, self.speaker, head, mouth)


def plan_clip(path: str, *, seed: int = 0, fps: int | None = None) -> Clip:
    """Decide everything about one clip, which depends on the arguments alone; drawing comes later and is what takes time.

    The path is such as `s01/about/s01_about_1.mp4`, or one of `BROKEN`, else ValueError; by default the frames per second are those
    of `RATES` whose turn it is.
    """
    name, word, take = parse_path(path)
    number = int(name[1:]) - 1
    who, rng = draw_speaker(number, seed), generator(seed, path)
    if fps is None:
        fps = RATES[(number + list(WORDS).index(word) + int(take)) % len(RATES)] if take.isdigit() else RATES[0]
    shapes, spans, seconds = _draw_times(rng, word, who.tempo)
    times = np.arange(round(seconds * fps)) / fps
    mouths = _draw_mouths(rng, shapes, spans, times)
    aside = {"away": _wander(times), "empty": np.full(len(times), 9.0 * SIZE[1])}.get(take, np.zeros(len(times)))
    heads = _draw_heads(rng, who, times, aside)
    points = np.stack([face_points(who, head, mouth) for head, mouth in zip(heads, mouths, strict=True)])
    inside = ((points >= 0) & (points <= np.array(SIZE[::-1]) - 1)).all(axis=(1, 2))
    points = np.where(inside[:, None, None], points, np.nan).astype(np.float32)
    said = spans[[shape != HESITATION for shape in shapes]]
    return Clip(who, fps, mouths, heads, said, points, draw_room(who, generator(seed, name)))


def parse_path(path: str) -> tuple[str, str, str]:
    """Speaker, word and take of a path; the file's name alone tells them, and the folders must agree."""
    name, word, take = (*Path(path).stem.split("_"), "", "", "")[:3]
    known = path in BROKEN or (re.fullmatch(r"s(0[1-9]|[1-9]\d+)", name) and re.fullmatch(r"[1-9]\d*", take))
    if word not in WORDS or not known or path != clip_path(name, word, take):
        raise ValueError(
            "path must look like s01/about/s01_about_1.mp4, with speakers and takes from 1 and a word of "
            f"{', '.join(WORDS)}, or be one of {', '.join(BROKEN)}. Received: {path!r}"
        )
    return name, word, take


def clip_path(speaker: str, word: str, take: int | str) -> str:
    """Where a clip stands in the dataset."""
    return f"{speaker}/{word}/{speaker}_{word}_{take}.mp4"


def _draw_times(rng: np.random.Generator, word: str, tempo: float) -> tuple[list[tuple], np.ndarray, float]:
    """The shapes of a word and its hesitations in turn, begin and end of each in seconds, (N, 2), and the length of the clip."""
    shapes = [VISEMES[name] for name in WORDS[word]]
    for _ in range(rng.integers(HESITATIONS + 1)):
        shapes.insert(rng.integers(len(shapes) + 1), HESITATION)
    seconds, pace = rng.uniform(*SECONDS), np.exp(rng.uniform(*np.log(PACE))) / tempo
    spoken = min(len(shapes) * pace, seconds - 0.14)
    onset = rng.uniform(0.05, seconds - spoken - 0.05)
    lengths = rng.uniform(0.25, 1.75, len(shapes))
    edges = onset + spoken * np.append(0, np.cumsum(lengths)) / lengths.sum()
    return shapes, np.stack([edges[:-1], edges[1:]], axis=1), seconds


def _draw_mouths(rng: np.random.Generator, shapes: list[tuple], spans: np.ndarray, times: np.ndarray) -> list[Mouth]:
    """The mouth in every frame: each shape is held for the middle of its span, with smooth ways between."""
    targets = np.array([REST, *shapes, REST])
    targets *= rng.normal(1, (0.03, 0.12, 0.1, 0.1, 0.1, 0.2), targets.shape)  # nobody says a word twice alike
    pause = 0.28 * (spans[:, 1] - spans[:, 0])
    holds = np.stack([spans[:, 0] + pause, spans[:, 1] - pause], axis=1).ravel()
    knots = np.array([-9, spans[0, 0] - 0.04, *holds, spans[-1, 1] + 0.04, 9])
    values = np.repeat(targets, 2, axis=0)  # at the beginning and the end of each hold
    index = np.searchsorted(knots, times)
    share = (times - knots[index - 1]) / (knots[index] - knots[index - 1])
    share = (3 * share**2 - 2 * share**3)[:, None]
    return [Mouth(*row) for row in (values[index - 1] * (1 - share) + values[index] * share).tolist()]


def _draw_heads(rng: np.random.Generator, who: Speaker, times: np.ndarray, aside: np.ndarray) -> list[Head]:
    """The head in every frame: slow sway and nod, a blink, brows that move; `aside` moves it to the right, in pixels."""
    rates, phases = rng.uniform(1.5, 4.5, 5), rng.uniform(0, 2 * np.pi, 5)  # radians per second, radians
    sway = np.sin(rates * times[:, None] + phases)
    offset = rng.normal(0, 2.0, 2)
    x = SIZE[1] / 2 + offset[0] + 1.5 * sway[:, 0] + aside
    y = 0.45 * SIZE[0] + offset[1] + 1.5 * sway[:, 1]
    angle = who.tilt + rng.normal(0, 0.02) + 0.025 * sway[:, 2]
    turns = who.eyes * rng.uniform(0.97, 1.03) * (1 + 0.015 * sway[:, 3]) * np.exp(1j * angle)
    eyelids = 1 - np.exp(-(((times - rng.uniform(-0.3, 1.9)) / 0.07) ** 2))
    rows = zip((x + 1j * y).tolist(), turns.tolist(), eyelids.tolist(), (0.02 * sway[:, 4]).tolist(), strict=True)
    return [Head(*row) for row in rows]


def _wander(times: np.ndarray) -> np.ndarray:
    """Out of the picture to the right and back again, in pixels per frame."""
    share = times / times[-1]
    step = np.clip((share - 0.3) / 0.08, 0, 1) - np.clip((share - 0.63) / 0.08, 0, 1)
    return 1.6 * SIZE[1] * (3 * step**2 - 2 * step**3)
