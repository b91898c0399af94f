"""Random changes of pictures and their boxes, as both Darknets make them.

Boxes are as in `resizing`. Every random choice comes from a NumPy generator or a seed that the caller gives.
"""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from helpers.boat_detection.augment import resizing
from helpers.boat_detection.augment.resizing import Placement, as_pair

MOSAIC_SHARE = 0.5  # of the pictures of a training with mosaic=1
MIN_OFFSET = 0.2  # a mosaic's cross keeps this share of the sides away from the border


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What changes at random, with the names and values of Darknet's cfg; 0 and, for the factors, 1 switch off."""

    # "alexeyab": each side cut or filled up with the mean colour; "pjreddie": another aspect ratio, at a random place on grey
    dialect: str
    jitter: float  # share of the picture's sides, below 0.5
    hue: float  # share of the colour circle, up to 0.5 to either side
    saturation: float  # a factor of at least 1; up to so much more or less
    exposure: float  # a factor too
    flip: bool = True  # mirror every second picture
    letterbox: bool = False  # AlexeyAB's letter_box=1, the aspect ratio is kept; pjreddie's needs none


def augment(
    image: np.ndarray,
    boxes: np.ndarray,
    size: int | Sequence[int],
    generator: np.random.Generator,
    options: Augmentation,
) -> tuple[np.ndarray, np.ndarray]:
    """Change a picture and its boxes at random, to the size of the input.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (n, 5).

    Returns:
        (height, width, 3) float32 in [0, 1] and (m, 5) float32 boxes: those that are still visible, cut to what is. Dropped
        are, as in Darknet, boxes below one pixel of the input (alexeyab) or 0.001 of it (pjreddie).
    """
    height, width = as_pair(size)
    flip = options.flip and generator.random() < 0.5
    if options.dialect == "pjreddie":
        picture, placement = _paste(image, (height, width), generator, options.jitter, flip)
        least = (0.001, 0.001)
    else:
        margins = _draw_margins(image.shape, (height, width), generator, options)
        picture, placement = _crop(image, margins, (height, width), flip)
        least = (1 / width, 1 / height)
    picture = shift_hsv(picture, *_draw_colours(generator, options))
    return resizing.to_float(picture), placement.place(boxes, least=least)


def _draw_colours(generator: np.random.Generator, options: Augmentation) -> tuple[float, float, float]:
    hue = float(generator.uniform(-options.hue, options.hue))
    return hue, resizing.draw_scale(generator, options.saturation), resizing.draw_scale(generator, options.exposure)


def shift_hsv(image: np.ndarray, hue: float, saturation: float, exposure: float) -> np.ndarray:
    """Turn the hue by a share of the circle and multiply saturation and value.

    Bytes go AlexeyAB's way (hue in steps of 2 degrees, which stops at 0 instead of going round), floats pjreddie's.
    """
    if (hue, saturation, exposure) == (0, 1, 1):
        return image
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    if image.dtype == np.uint8:
        ramp = np.arange(256, dtype=np.float32)
        table = np.stack([ramp + np.float32(179 * hue), ramp * np.float32(saturation), ramp * np.float32(exposure)], -1)
        hsv = cv2.LUT(hsv, np.clip(np.rint(table), 0, 255).astype(np.uint8)[None])
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    change = np.array([[1, 0, 0, 360 * hue], [0, saturation, 0, 0], [0, 0, exposure, 0]])
    return np.clip(cv2.cvtColor(cv2.transform(hsv, change), cv2.COLOR_HSV2RGB), 0, 1)


def _draw_margins(
    shape: Sequence[int], size: tuple[int, int], generator: np.random.Generator, options: Augmentation
) -> list[int]:
    """Pixels to cut off (or, negative, to add) left, top, right and bottom, as seen after mirroring."""
    height, width = shape[:2]
    most = [int(side * options.jitter) for side in (width, height, width, height)]
    margins = [int(m * share) for m, share in zip(most, generator.uniform(-1, 1, 4), strict=True)]
    if options.letterbox:  # towards the input's aspect ratio
        more_x = max(0.0, (height * size[1] / size[0] - width) / 2)
        more_y = max(0.0, (width * size[0] / size[1] - height) / 2)
        margins = [int(m - more) for m, more in zip(margins, (more_x, more_y) * 2, strict=True)]
    return margins


def _crop(image: np.ndarray, margins: Sequence[int], size: tuple[int, int], flip: bool) -> tuple[np.ndarray, Placement]:
    """Cut off and fill up with the mean colour, then resize."""
    (height, width), (left, top, right, bottom) = image.shape[:2], margins
    columns, rows = width - left - right, height - top - bottom
    placement = Placement(-left / columns, -top / rows, width / columns, height / rows, flip)
    if flip:
        left, right = right, left
    inner = image[max(0, top) : height - max(0, bottom), max(0, left) : width - max(0, right)]
    added = [max(0, -margin) for margin in (top, bottom, left, right)]
    if any(added):
        inner = cv2.copyMakeBorder(inner, *added, cv2.BORDER_CONSTANT, value=cv2.mean(image))
    picture = resizing.resize(inner, size)
    return (cv2.flip(picture, 1) if flip else picture), placement


def _paste(
    image: np.ndarray, size: tuple[int, int], generator: np.random.Generator, jitter: float, flip: bool
) -> tuple[np.ndarray, Placement]:
    """Resize to fit with another aspect ratio and put it somewhere on grey."""
    (rows, columns), (high, wide) = size, image.shape[:2]
    aspect = wide / high * (1 + generator.uniform(-jitter, jitter)) / (1 + generator.uniform(-jitter, jitter))
    # Whole pixels, for the boxes too: Darknet rounds only where it paints.
    height, width = max(1, min(rows, int(columns / aspect))), max(1, min(columns, int(rows * aspect)))
    top, left = int(generator.uniform(0, rows - height)), int(generator.uniform(0, columns - width))
    picture = np.full((rows, columns, 3), resizing.GREY, np.float32)
    part = resizing.resize(image, (height, width))
    picture[top : top + height, left : left + width] = resizing.to_float(cv2.flip(part, 1) if flip else part)
    return picture, Placement(left / columns, top / rows, width / columns, height / rows, flip)


def mosaic(
    pictures: Sequence[tuple[np.ndarray, np.ndarray]],
    size: int | Sequence[int],
    generator: np.random.Generator,
    options: Augmentation,
) -> tuple[np.ndarray, np.ndarray]:
    """Four pictures around a random cross, each changed at random: AlexeyAB's mosaic=1 with mosaic_bound=1.

    As `augment`, but `pictures` are four (image, boxes): top left, top right, bottom left, bottom right. Each box is cut to its
    picture's quarter.
    """
    height, width = as_pair(size)
    cut_x, cut_y = (
        int(generator.integers(int(side * MIN_OFFSET), int(side * (1 - MIN_OFFSET)), endpoint=True))
        for side in (width, height)
    )
    canvas, found = np.empty((height, width, 3), np.uint8), []
    for corner, (image, boxes) in enumerate(pictures):
        flip = options.flip and generator.random() < 0.5
        margins = _draw_margins(image.shape, (height, width), generator, options)
        first_x, first_y = corner % 2 == 0, corner < 2
        if generator.random() < 0.5:  # both of an axis on the side that the cross cuts off: most of the picture is seen
            across, down = margins[0] + margins[2], margins[1] + margins[3]
            margins = [across * (not first_x), down * (not first_y), across * first_x, down * first_y]
        picture, placement = _crop(image, margins, (height, width), flip)
        x, from_x, columns = _quarter(cut_x, width, margins[0::2], image.shape[1], first=first_x)
        y, from_y, rows = _quarter(cut_y, height, margins[1::2], image.shape[0], first=first_y)
        part = picture[from_y : from_y + rows, from_x : from_x + columns]
        canvas[y : y + rows, x : x + columns] = shift_hsv(part, *_draw_colours(generator, options))
        left, top = placement.left + (x - from_x) / width, placement.top + (y - from_y) / height
        within = (x / width, y / height, (x + columns) / width, (y + rows) / height)
        placed = placement._replace(left=left, top=top)
        found.append(placed.place(boxes, least=(1 / width, 1 / height), within=within))
    return resizing.to_float(canvas), np.concatenate(found)


def _quarter(cut: int, side: int, margins: Sequence[int], source: int, *, first: bool) -> tuple[int, int, int]:
    """Along one axis: where a quarter begins, from where in its picture it is taken, and its length.

    A picture is taken from the side that lies at the cross; what was filled up there is passed over.
    """
    before, after = (max(0, int(-margin * side / source)) for margin in margins)
    if first:
        return 0, side - cut - min(side - cut, after), cut
    return cut, min(cut, before), side - cut
