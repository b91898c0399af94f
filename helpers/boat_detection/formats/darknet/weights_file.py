"""Darknet's .weights files without a network: header and values. Into a network, and out of one, they go in `keras_weights`.

A header (three int32 of version, then the images seen so far as uint64, before version 0.2 as uint32, and some programs write
another than their version says), then the float32 of each convolution in the order of the .cfg: beta, gamma, mean, variance,
kernel with batch normalisation, else bias, kernel. Only its length says which network a file belongs to.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from helpers import intake

VERSION = (0, 2, 5)  # what AlexeyAB's Darknet writes


def read_file(path: str | os.PathLike, fits: Callable[[int], bool] = lambda count: True) -> tuple[int, np.ndarray]:
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
    if not fits((size - header) // 4) and fits((size - 36 + header) // 4):
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
