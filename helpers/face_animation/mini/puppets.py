"""Who the hand puppets of the mini dataset are, how they may be held, and how they move.

Heads of felt in colours that nobody has: no person is shown, and none could be mistaken for one.
"""

from dataclasses import asdict, dataclass

import numpy as np

from helpers.drawing.chance import Traits, generator
from helpers.drawing.colour import Color, from_hsv

POINTS = (  # right is the puppet's own right, which is left in the picture
    "right_eye",
    "left_eye",
    "right_pupil",
    "left_pupil",
    "nose",
    "right_mouth",
    "left_mouth",
    "chin",
    "right_ear",
    "left_ear",
)
STYLES = ("curls", "mop", "beanie", "cone", "tophat")
LOOKS = 30  # free numbers that make a puppet, one a trait
BLOCK = 20  # puppets that share out the range of each trait
FPS = 25
LIMITS = {"yaw": (-0.75, 0.75), "pitch": (-0.4, 0.4), "roll": (-0.35, 0.35), "opening": (0, 1), "lids": (0, 1)}


@dataclass(frozen=True)
class Puppet:
    """What stays with a puppet in all clips; lengths in radii of a head, colours RGB."""

    skin: Color
    hair: Color
    hat: Color
    trim: Color  # of the hat, and the collar
    nose: Color
    iris: Color
    shirt: Color
    wall: Color
    style: str
    eyebrows: bool
    width: float  # half the width of the head
    jaw: float  # half the width of the jaw, as a share of `width`
    eyes: float  # from the middle to an eye
    eye: float  # radius of an eye
    snout: float  # radius of the nose
    level: float  # of the mouth below the middle of the head
    grin: float  # half the width of the mouth
    smile: float  # how far the corners of the mouth are raised
    ears: float  # radius of an ear
    size: float  # radius of the head as a share of the picture
    spots: int  # number of spots on the cheeks
    tempo: float  # 1 is average, more is faster


@dataclass(frozen=True)
class Pose:
    """How a puppet is held in one frame. Angles in radians.

    Attributes:
        x, y: where the head is, as a share of the picture, 0 in its middle.
        yaw: turned to the picture's right.
        pitch: looking down.
        roll: tilted clockwise in the picture.
        opening: of the mouth, 0 shut to 1 wide open.
        lids: 0 eyes open to 1 shut.
        look_x, look_y: where the pupils point to, -1 to 1, right and down.
    """

    x: float = 0.0
    y: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    opening: float = 0.0
    lids: float = 0.0
    look_x: float = 0.0
    look_y: float = 0.0


def make_puppet(number: int, seed: int = 0) -> Puppet:
    """The puppet of a number (from 0) and seed.

    Twenty in a row share out the range of every trait evenly (a Latin hypercube), so none looks like another.
    """
    block, place = divmod(number, BLOCK)
    traits = Traits(np.random.default_rng([seed, block, 6]), place, group=BLOCK, count=LOOKS)
    tone = traits.span(0, 180)
    return Puppet(
        skin=from_hsv(tone, traits.span(90, 170), traits.span(205, 250)),
        hair=from_hsv(tone + traits.span(40, 140), 190, traits.span(90, 215)),
        hat=from_hsv(tone + traits.span(50, 130), 200, traits.span(140, 230)),
        trim=from_hsv(traits.span(0, 180), 150, 245),
        nose=from_hsv(tone + traits.span(60, 120), 180, traits.span(170, 230)),
        iris=from_hsv(traits.span(0, 180), 200, 110),
        shirt=from_hsv(traits.span(0, 180), 150, traits.span(110, 200)),
        wall=from_hsv(tone + traits.span(55, 125), traits.span(40, 90), traits.span(110, 235)),
        style=STYLES[number % len(STYLES)],
        eyebrows=traits.number() < 0.6,
        width=traits.span(0.84, 1.0),
        jaw=traits.span(0.66, 0.92),
        eyes=traits.span(0.30, 0.37),
        eye=traits.span(0.21, 0.28),
        snout=traits.span(0.14, 0.22),
        level=traits.span(0.46, 0.54),
        grin=traits.span(0.32, 0.48),
        smile=traits.span(0.02, 0.12),
        ears=traits.span(0.15, 0.25),
        size=traits.span(0.33, 0.38),
        spots=round(traits.span(-0.5, 4.5)),
        tempo=traits.span(0.85, 1.2),
    )


def plan_motion(rng: np.random.Generator, frames: int, tempo: float = 1.0) -> list[Pose]:
    """Draw how a puppet moves, 25 poses a second: slow waves for the head, a chattering mouth, blinks, eyes that look ahead."""
    time = np.arange(frames) / FPS
    slow = 2 * np.pi * tempo * rng.uniform(0.28, 0.5, 5)  # radians per second
    fast = slow * rng.uniform(1.6, 2.3, 5)
    start = rng.uniform(0, 2 * np.pi, (2, 5))
    waves = 0.8 * np.sin(slow * time[:, None] + start[0]) + 0.3 * np.sin(fast * time[:, None] + start[1])
    x, y, yaw, pitch, roll = (waves * rng.uniform((0.04, 0.015, 0.4, 0.16, 0.1), (0.08, 0.03, 0.62, 0.28, 0.22))).T
    speaks = np.clip(1.4 * np.sin(2 * np.pi * (0.5 * time + rng.random())) + 0.7, 0, 1)
    syllables = 0.5 - 0.5 * np.cos(2 * np.pi * tempo * rng.uniform(1.8, 2.6) * time + rng.uniform(0, 6))
    blinks = rng.uniform(0.2, 2.2) + np.cumsum(rng.uniform(1.8, 3.0, 6))[:, None] - 1.8
    lids = np.exp(-(((time - blinks) / 0.08) ** 2)).max(axis=0)
    look_x = np.clip(1.2 * np.sin(0.9 * slow[2] * time + start[0, 2] + 0.7), -1, 1)
    look_y = 0.8 * np.sin(fast[3] * time + start[1, 3])
    table = np.stack([x, y, yaw, pitch, roll, speaks * syllables, lids, look_x, look_y], axis=1)
    return [Pose(*row) for row in table.tolist()]


def moved(zero: Pose, now: Pose) -> Pose:
    """The pose of one who looked ahead after the motion from `zero` to `now`, as far as neck, mouth and lids go."""
    before = asdict(zero)
    change = {name: value - before[name] for name, value in asdict(now).items()}
    held = {name: float(np.clip(change[name], *limits)) for name, limits in LIMITS.items()}
    return Pose(**change | held)


def clip_poses(name: str, start: int, end: int, seed: int) -> list[Pose]:
    puppet = make_puppet(puppet_number(name), seed)
    return plan_motion(generator(seed, name, start, "motion"), end - start, puppet.tempo)


def puppet_number(name: str) -> int:
    """Of the puppet in a video, from 0."""
    return int(name[len("puppet-") : -1]) - 1
