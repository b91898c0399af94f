"""Picture files. Worker processes import this module, so it must never pull in TensorFlow or Keras."""

import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

JPEG_QUALITY = 95
ORIENTATION = 0x0112  # of EXIF: 1 is upright, 2 to 8 are turned or mirrored


def read_picture(path: str | os.PathLike, *, upright: bool = True) -> np.ndarray:
    """A picture as (H, W, 3) RGB uint8; alpha is dropped, grey becomes three equal channels.

    `upright` turns it as the camera's note (EXIF) says. FileNotFoundError, or ValueError where it cannot be decoded.
    """
    # OpenCV's own reading takes no names outside ASCII everywhere.
    content = np.frombuffer(Path(path).read_bytes(), np.uint8)
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(content, flags) if content.size else None
    if image is None:
        name, again = Path(path).name, "remove it, or run what made it again"
        raise ValueError(f"{name} is no picture that can be read ({content.size} bytes): {again}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def is_noted_turned(path: str | os.PathLike) -> bool:
    """Whether a picture's file says that its pixels are to be turned or mirrored; True too where Pillow cannot tell."""
    try:
        with Image.open(path) as picture:
            return picture.getexif().get(ORIENTATION, 1) != 1
    except (OSError, SyntaxError, ValueError):  # Pillow refuses some files that OpenCV decodes
        return True


def shrink(image: np.ndarray, factor: float) -> np.ndarray:
    """A picture so many times smaller, each side at least one pixel; as it is where the factor is at most 1."""
    if factor <= 1:
        return image
    size = [max(1, round(side / factor)) for side in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def encode_picture(image: np.ndarray, suffix: str, quality: int = JPEG_QUALITY) -> bytes:
    """The bytes of a picture file, or ValueError; for a writer of one's own, since `cv2.imwrite` says nothing of a full disk.

    Args:
        image: (H, W, 3) RGB uint8.
        suffix: ".jpg" or ".png".
        quality: of a JPEG, 0 to 100.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else []
    done, content = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ValueError(f"OpenCV cannot encode a picture of shape {image.shape} as {suffix}")
    return content.tobytes()
