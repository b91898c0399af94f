"""Changes of a pair of frames by chance: swapped in time, mirrored, tinted."""

import numpy as np
from PIL import Image, ImageEnhance


def augment(
    pair: np.ndarray,
    generator: np.random.Generator,
    *,
    brightness: float = 0.1,
    contrast: float = 0.1,
    saturation: float = 0.1,
    hue: float = 0.1,
) -> np.ndarray:
    """Change both frames alike, as the original does: half of the pairs are swapped in time, half of the others mirrored.

    Then brightness, contrast and saturation by factors up to 1 - x to 1 + x and the hue by up to x of the colour circle, in
    random order, each on 8-bit pictures as Pillow does it (so every change rounds).

    Args:
        pair: (2, H, W, 3) uint8.
        generator: of all choices; the same number is drawn whatever comes out.
        brightness, contrast, saturation, hue: 0 switches one off.

    Returns:
        (2, H, W, 3) uint8.
    """
    swap, mirror = generator.random(2) < 0.5
    factors = 1 + generator.uniform(-1, 1, 3) * [brightness, saturation, contrast]
    shift = generator.uniform(-hue, hue)
    order = generator.permutation(4)
    pair = pair[::-1] if swap else pair[:, :, ::-1] if mirror else pair
    return np.stack([_jitter(frame, factors, shift, order) for frame in pair])


def _jitter(frame: np.ndarray, factors: np.ndarray, shift: float, order: np.ndarray) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(frame))
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Color, ImageEnhance.Contrast)
    for kind in order:
        if kind == 3:
            image = shift_hue(image, shift)
        elif factors[kind] != 1:
            image = enhancers[kind](image).enhance(float(factors[kind]))
    return np.asarray(image)


def shift_hue(image: Image.Image, shift: float) -> Image.Image:
    """Turn the 8-bit hue by int(shift * 255), around the circle; 0 leaves the picture as it is."""
    if not shift:
        return image
    hue, *others = image.convert("HSV").split()
    turned = ((np.asarray(hue, np.int16) + int(shift * 255)) % 256).astype(np.uint8)
    return Image.merge("HSV", (Image.fromarray(turned), *others)).convert("RGB")
