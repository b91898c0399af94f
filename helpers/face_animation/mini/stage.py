"""Draws a hand puppet in a pose: where its parts are in space, how they get into the picture, and the still wall behind.

A puppet has 3-D coordinates: x to the picture's right, y down, z towards the viewer, 0 in the middle of the head, about 1 the
head's radius. It is turned about its neck and seen from far away (no perspective), so that a nose that stands out, eyes
and ears move against the outline as on a real head.
"""

import cv2
import numpy as np

from helpers.drawing.colour import Color, mix, shade
from helpers.drawing.pen import Pen, circle
from helpers.face_animation.mini.puppets import Pose, Puppet

FINER = 2  # pictures are drawn at twice their size, then averaged: smooth edges, and motion by parts of a pixel
WHITE, DARK, MOUTH, TONGUE, RED = (250, 250, 246), (24, 20, 28), (96, 26, 40), (232, 108, 116), (255, 80, 100)
DISC = circle(24).view(float).reshape(-1, 2)
ARC = np.linspace(-1, 1, 9)  # from the puppet's right corner of the mouth to the left one
PIVOT = np.array([0.0, 0.85, -0.15])  # the neck, about which a head turns
HATS = {  # parts from below: which of the puppet's colours, how light, radius and height of rings, see `_Stage.lathe`
    "beanie": (
        ("trim", 1, ((0.95, 0.48), (0.95, 0.66))), ("hat", 1, ((0.9, 0.66), (0.8, 0.86), (0.5, 1.15), (0.0, 1.25))),
    ),
    "cone": (("trim", 1, ((0.88, 0.53), (0.79, 0.68))), ("hat", 1, ((0.79, 0.68), (0.0, 2.0)))),
    "tophat": (
        ("hat", 0.85, ((1.08, 0.55), (1.08, 0.63))), ("trim", 1, ((0.62, 0.63), (0.63, 0.82))),
        ("hat", 1, ((0.63, 0.82), (0.68, 1.5))),
    ),
}  # fmt: skip


def draw_room(puppet: Puppet, size: int, rng: np.random.Generator) -> np.ndarray:
    """The still wall behind a puppet, (size, size, 3) uint8: a gradient with a few soft shapes and a shelf."""
    fade = np.linspace(1.08, 0.72, size)[:, None, None]
    image = np.clip(np.broadcast_to(puppet.wall * fade, (size, size, 3)), 0, 255).astype(np.uint8)
    for _ in range(4):
        corner = rng.uniform(-0.2, 0.9, 2) * size
        extent = corner + rng.uniform(0.15, 0.4, 2) * size
        color = shade(puppet.wall, rng.uniform(0.6, 1.35))
        cv2.rectangle(image, corner.astype(int).tolist(), extent.astype(int).tolist(), color, -1)
    return cv2.GaussianBlur(image, (0, 0), size / 50)


def puppet_points(puppet: Puppet, pose: Pose, size: int) -> np.ndarray:
    """Where the points are, whether they can be seen or not: (10, 2) float32, x and y in pixels, in the order of `POINTS`.

    Whole numbers are the middles of pixels.
    """
    stage = _Stage(puppet, pose, size)
    parts = [stage.eyes[0], stage.eyes[1], *stage.pupils, stage.nose, *stage.corners, stage.chin, *stage.ears]
    return ((stage.project(np.array(parts)) + 0.5) / FINER - 0.5).astype(np.float32)


def draw_puppet(room: np.ndarray, puppet: Puppet, pose: Pose) -> np.ndarray:
    """Draw one picture, (H, H, 3) uint8, in front of the room, which is left as it is."""
    size = room.shape[0]
    image = cv2.resize(room, (FINER * size, FINER * size))
    stage = _Stage(puppet, pose, size, image)
    _draw_body(stage, puppet)
    ears = sorted((stage.ears[0], stage.ears[1]), key=lambda ear: float(stage.turn[2] @ ear))
    _draw_ear(stage, puppet, ears[0])
    _draw_hair(stage, puppet, behind=True)
    _draw_head(stage, puppet)
    _draw_mouth(stage, puppet)
    _draw_ear(stage, puppet, ears[1])
    _draw_hair(stage, puppet, behind=False)
    for side in (0, 1):
        _draw_eye(stage, puppet, side)
    stage.ball(stage.nose, puppet.snout, puppet.nose)
    stage.ball(stage.nose + np.array([-0.3, -0.3, 0.6]) * puppet.snout, 0.35 * puppet.snout, shade(puppet.nose, 1.35))
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


class _Stage(Pen):
    """The parts of a puppet in a pose in 3-D, and how they get into the picture (or only to pixels, without one)."""

    def __init__(self, puppet: Puppet, pose: Pose, size: int, image: np.ndarray | None = None) -> None:
        super().__init__(image, FINER * size * puppet.size)
        self.pose = pose
        self.origin = FINER * size * np.array([0.5 + pose.x, 0.53 + pose.y]) - 0.5
        self.turn = _rotation(pose)
        self.drop = 0.34 * pose.opening  # of the jaw
        self.radii = np.array([puppet.width, 1.0, 0.88])
        self.eyes = self.on_face(np.array([-puppet.eyes, puppet.eyes]), np.array([-0.2, -0.2]))
        look = np.array([0.55 * pose.look_x, 0.5 * pose.look_y + 0.1, 1.0])
        self.pupils = self.eyes + puppet.eye * 0.95 * look / np.linalg.norm(look)
        self.nose = self.on_face(np.array([0.0]), np.array([0.14]))[0] + [0, 0, 0.75 * puppet.snout]
        self.lips = self.on_face(puppet.grin * ARC, puppet.level - puppet.smile * ARC**2)
        self.corners = self.lips[[0, -1]]
        self.chin = self.on_face(np.array([0.0]), np.array([0.8 + self.drop]))[0]
        self.ears = np.array([[side * (puppet.width + 0.5 * puppet.ears), -0.05, -0.1] for side in (-1, 1)])

    def on_face(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Points (N, 3) on the front of the head, an ellipsoid whose lower half a falling jaw makes longer."""
        tall = self.radii[1] + self.drop * (y > 0)
        rest = 1 - (x / self.radii[0]) ** 2 - (y / tall) ** 2
        return np.stack([x, y, self.radii[2] * np.sqrt(np.maximum(rest, 0.02))], axis=-1)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels (N, 2) of the finer picture."""
        return self.origin + self.scale * ((points - PIVOT) @ self.turn[:2].T + PIVOT[:2])

    def outline(self, center: np.ndarray, radii: np.ndarray) -> np.ndarray:
        """The outline (24, 2) of an ellipsoid: a circle through the root of A A', A its axes as they are projected."""
        axes = self.turn[:2] * radii
        root = np.linalg.cholesky(axes @ axes.T)
        return self.project(center[None]) + self.scale * DISC @ root.T

    def ball(self, center: np.ndarray, radii: float | np.ndarray, color: Color) -> None:
        self.area(self.outline(center, np.broadcast_to(radii, 3)), color)

    def patch(self, x: float, y: float, radii: float | np.ndarray, color: Color) -> None:
        """A spot of colour on the face, unless it is turned away."""
        place = self.on_face(np.array([x]), np.array([y]))[0]
        if self.turn[2] @ place > 0.12:
            self.ball(place, radii, color)

    def lathe(self, profile: tuple[tuple[float, float], ...], radii: np.ndarray, color: Color) -> None:
        """A convex body turned on a lathe: radius and height (up is positive) of its rings, as shares of `radii`."""
        radius, height = np.array(profile).T[:, :, None]
        rings = np.stack([radius * DISC[:, 0], -height + 0 * DISC[:, 0], radius * DISC[:, 1]], axis=-1)
        if self.pose.pitch < 0:  # seen from below, the back of a ring must not show on the forehead
            rings = rings[:, DISC @ self.turn[2, [0, 2]] > -0.1]
        corners = self.project((rings * radii).reshape(-1, 3)).astype(np.float32)
        self.area(cv2.convexHull(corners)[:, 0], color)


def _rotation(pose: Pose) -> np.ndarray:
    (cy, cp, cr), (sy, sp, sr) = np.cos([pose.yaw, pose.pitch, pose.roll]), np.sin([pose.yaw, pose.pitch, pose.roll])
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return roll @ pitch @ yaw


def _draw_body(stage: _Stage, who: Puppet) -> None:
    """A hand's sleeve with buttons and a ruffled collar; it follows the head but does not turn with it."""
    x = np.array([0.45, 0.75, 0.95, 1.05])
    y = np.array([1.0, 1.25, 1.9, 4.0])
    sleeve = np.concatenate([np.stack([x, y], 1), np.stack([-x, y], 1)[::-1]])
    sway = 0.35 * np.array([stage.pose.roll, 0])
    place = stage.origin * [0.7, 1] + [0.3 * stage.image.shape[1] / 2, 0]
    stage.area(place + stage.scale * (sleeve + sway), who.shirt)
    for height in (1.55, 1.9):
        stage.area(place + stage.scale * (0.07 * DISC + sway + [0, height]), who.trim)
    for ruffle in np.linspace(-0.52, 0.52, 6):
        color = shade(who.trim, 0.9 + 0.2 * abs(ruffle))
        stage.area(place + stage.scale * (0.17 * DISC + sway + [ruffle, 1.14 - 0.12 * ruffle**2]), color)


def _draw_ear(stage: _Stage, who: Puppet, place: np.ndarray) -> None:
    stage.ball(place, who.ears * np.array([0.8, 1.15, 0.6]), shade(who.skin, 0.85))
    stage.ball(place + [0, 0, 0.1], who.ears * np.array([0.45, 0.7, 0.4]), shade(who.skin, 0.62))


def _draw_head(stage: _Stage, who: Puppet) -> None:
    jaw = np.array([0.0, 0.42 + stage.drop, 0.05])
    below = stage.outline(jaw, np.array([who.jaw * who.width, 0.6, 0.68]))
    both = np.concatenate([stage.outline(np.zeros(3), stage.radii), below])
    head = cv2.convexHull(both.astype(np.float32))[:, 0]
    middle = head.mean(axis=0)
    for share, tone in ((1.0, 0.88), (0.9, 0.95), (0.78, 1.0), (0.5, 1.04)):  # light falls from above left
        stage.area(middle + share * (head - middle) - 0.35 * (1 - share) * stage.scale, shade(who.skin, tone))
    blush = mix(who.skin, RED, 0.35)
    for side in (-1, 1):
        stage.patch(0.58 * side * who.width, 0.3, np.array([0.16, 0.12, 0.1]), blush)
        for angle in 2.4 * np.arange(who.spots):
            x, y = side * (0.58 + 0.16 * np.cos(angle)) * who.width, 0.05 + 0.1 * np.sin(angle)
            stage.patch(x, y, 0.045, shade(who.skin, 0.6))
    stage.patch(0.0, stage.chin[1], np.array([0.14, 0.08, 0.1]), shade(who.skin, 0.74))


def _draw_mouth(stage: _Stage, who: Puppet) -> None:
    arch = np.sqrt(1 - ARC**2)
    below = stage.lips + np.stack([0 * ARC, (stage.drop + 0.03) * arch, 0 * ARC], axis=1)
    above = stage.lips - np.stack([0 * ARC, 0.25 * stage.drop * arch, 0 * ARC], axis=1)
    opening = stage.project(np.concatenate([above, below[::-1]]))
    stage.area(opening, MOUTH)
    if stage.drop > 0.08:
        center = below.mean(axis=0) - [0, 0.12 * stage.drop, 0]
        tongue = np.concatenate([below[2:7], (center - [0, 0.35 * stage.drop, 0])[None]])
        stage.area(stage.project(tongue), TONGUE)
    for edge in (above, below):
        stage.line(stage.project(edge), MOUTH, 0.05)


def _draw_hair(stage: _Stage, who: Puppet, *, behind: bool) -> None:
    wide = np.array([who.width, 1.0, 0.88])
    if who.style in ("curls", "mop"):
        angles = np.linspace(0, 2 * np.pi, 9, endpoint=False)
        curls = [(0.95 * np.cos(a), -0.62, 0.78 * np.sin(a)) for a in angles] + [(0, -1.0, 0.1), (0.4, -0.98, -0.3)]
        curls += [(-0.45, -0.96, -0.1), (0.3, -0.95, 0.4), (-0.25, -0.95, 0.45)]
        grow = 0.28 if who.style == "curls" else 0.2
        if not behind:
            stage.lathe(((0.86, 0.56), (0.78, 0.78), (0.5, 1.0), (0.0, 1.1)), 1.06 * wide, who.hair)
        for place in sorted(np.array(curls) * wide, key=lambda place: float(stage.turn[2] @ place)):
            depth = float(stage.turn[2] @ place)
            if (depth < 0) == behind and (who.style == "curls" or place[1] > -0.8):
                stage.ball(place, grow, shade(who.hair, 0.92 + 0.14 * depth))
        return
    if behind:
        for side in (-1, 1):
            stage.ball(np.array([0.88 * side * who.width, -0.42, -0.1]), 0.22, who.hair)
        return
    _draw_hat(stage, who, wide)


def _draw_hat(stage: _Stage, who: Puppet, wide: np.ndarray) -> None:
    parts = HATS[who.style]
    for color, tone, profile in parts if stage.pose.pitch > 0 else parts[::-1]:  # what is nearer is drawn later
        stage.lathe(profile, wide, shade(getattr(who, color), tone))
    if who.style == "beanie":
        stage.ball(np.array([0, -1.36, 0]), 0.2, who.trim)
    if who.style == "cone":
        for height, angle in ((0.95, 0.2), (1.15, 1.6), (0.95, 2.7), (1.4, 0.9)):
            radius = 0.79 * (2.0 - height) / 1.32
            place = np.array([radius * np.cos(angle), -height, radius * np.sin(angle)]) * wide
            stage.ball(place, 0.08, who.trim)


def _draw_eye(stage: _Stage, who: Puppet, side: int) -> None:
    center, pupil = stage.eyes[side], stage.pupils[side]
    stage.ball(center, who.eye + 0.025, shade(who.skin, 0.7))
    stage.ball(center, who.eye, WHITE)
    stage.ball(pupil, 0.62 * who.eye * np.array([1, 1, 0.6]), who.iris)
    stage.ball(pupil, 0.36 * who.eye, DARK)
    stage.ball(pupil + np.array([-0.18, -0.2, 0.1]) * who.eye, 0.13 * who.eye, WHITE)
    half = np.pi * max(stage.pose.lids, 0.2)
    lid = np.exp(1j * (-np.pi / 2 + stage.pose.roll + np.linspace(-half, half, 17)))
    disc = np.stack([lid.real, lid.imag], axis=1) * (who.eye + 0.02) * stage.scale
    stage.area(stage.project(center[None]) + disc, shade(who.skin, 0.8))
    if who.eyebrows:
        arch = np.stack([0.8 * ARC, -1.35 - 0.3 * (1 - ARC**2) - 0.2 * stage.pose.opening, 0.3 + 0 * ARC], axis=1)
        stage.line(stage.project(center + who.eye * arch), who.hair, 0.08)
