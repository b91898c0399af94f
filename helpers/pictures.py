"""Picture files. Worker processes import this module, so it must never pull in TensorFlow or Keras."""

import os
from pathlib import Path

import cv2
import numpy as np


def read_picture(path: str | os.PathLike) -> np.ndarray:
    """A picture as (H, W, 3) RGB uint8, upright; alpha is dropped, grey becomes three equal channels.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be decoded; names the file.
    """
    # OpenCV's own reading takes no names outside ASCII everywhere.
    content = np.frombuffer(Path(path).read_bytes(), np.uint8)
    image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if image is None:
        raise ValueError(
            f"{str(path)!r} is no readable picture ({content.size} bytes): remove it, and run what made it again"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
