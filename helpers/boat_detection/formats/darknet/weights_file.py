"""Darknet's .weights files without a network: header, values, and the cut that makes a backbone of a detector. Into a network, and
out of one, they go in `keras_weights`.

A header (three int32 of version, then the images seen so far as uint64, before version 0.2 as uint32, and some programs write
another than their version says), then the float32 of each convolution in the order of the .cfg: beta, gamma, mean, variance,
kernel with batch normalisation, else bias, kernel. Only its length says which network a file belongs to.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from helpers import intake
from helpers.boat_detection.formats.darknet import cfg_files
from helpers.workspace import disk

VERSION = (0, 2, 5)  # what AlexeyAB's Darknet writes


def read_file(path: str | os.PathLike, fits: Callable[[int], bool] | None = None) -> tuple[int, np.ndarray]:
    """Header and values of a file.

    Args:
        fits: whether a number of values ends where a layer ends; without it the version alone tells how long the header is.

    Returns:
        Images seen, and all values as a memory map, float32 (count,).

    Raises:
        FileNotFoundError: no such file.
        ValueError: no header, with what the file is instead, or a length that is no whole number of values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path.name} in {path.parent}; expected a Darknet .weights file")
    with path.open("rb") as file:
        start = file.read(20)
    header = _header_length(start)
    if header is None or len(start) < header:
        why = f"no Darknet header (three int32, then the images seen) in its first {len(start)} bytes"
        kind = intake.describe(path)
        raise ValueError(f"{path.name}: {why}{f', it is {kind}' if kind else ''}; expected a Darknet .weights file")
    size = path.stat().st_size
    if fits is not None and not fits((size - header) // 4) and fits((size - 36 + header) // 4):
        # As an upper half of `seen` the word at 16 is small, as a weight it is not: so a lost value is no shorter header.
        header = 20 if int.from_bytes(start[16:20], "little") < 1 << 12 else 16
    seen = int(np.frombuffer(start[12:header], "<u8" if header == 20 else "<u4")[0])
    size -= header
    if size % 4 or not size:
        raise ValueError(f"{path.name}: truncated: {size} bytes after the header, expected a multiple of 4 above 0")
    return seen, np.memmap(path, "<f4", "r", offset=header)


def _header_length(start: bytes) -> int | None:
    """As the version says; None where there is none."""
    if len(start) < 12:
        return None
    major, minor, _ = np.frombuffer(start[:12], "<i4").tolist()
    if not (0 <= major < 10_000 and 0 <= minor < 10_000):
        return None
    return 20 if 10 * major + minor >= 2 and major < 1000 and minor < 1000 else 16


def make_header(seen: int = 0) -> bytes:
    """The 20 bytes at the beginning of a new file."""
    return np.array(VERSION, "<i4").tobytes() + np.array([seen], "<u8").tobytes()


def cut_weights(src: str | os.PathLike, dst: str | os.PathLike, layers: int = 74, *, cfg: cfg_files.Cfg) -> int:
    """Cut a .weights file after a layer, as Darknet's `partial` does: yolov3.weights at 74 is a darknet53.conv.74.

    Args:
        src: a file of at least so many layers of the network `cfg`.
        dst: the file to write; its header says that no images were seen, so that Darknet trains from the beginning.
        layers: keep those with numbers below this.

    Returns:
        Number of convolutions written.

    Raises:
        ValueError: `src` is shorter than that, or holds values that are not finite.
    """
    ends = set(np.cumsum([layer.floats for layer in cfg.layers]).tolist())
    kept = [layer.floats for layer in cfg.layers if layer.index < layers and layer.floats]
    _, values = read_file(src, ends.__contains__)
    name, count = Path(src).name, sum(kept)
    if not kept or len(values) < count:
        raise ValueError(
            f"{name}: {len(kept)} convolutions before layer {layers} need {count} values. Received: {len(values)}"
        )
    if not np.isfinite(values[:count]).all():
        raise ValueError(f"{name}: holds values that are not finite before layer {layers}; the training had failed")
    with disk.atomic_write(dst) as file:
        file.write(make_header())
        file.write(values[:count].tobytes())
    return len(kept)
