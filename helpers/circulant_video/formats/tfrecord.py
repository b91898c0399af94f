"""TFRecord files, read record by record past any damage.

A record is: length (8 bytes), its checksum (4), payload, the payload's checksum (4), all little endian. TensorFlow's own
reader ends at the first wrong checksum and leaves the rest of the file unread; this one names what is wrong and goes on.
"""

import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import google_crc32c
import numpy as np

from helpers import intake
from helpers.workspace import disk

HEADER, FOOTER = 12, 4  # bytes around a payload
SEARCH = 1 << 18  # bytes searched for a header at a time


def checksum(data: bytes) -> int:
    """CRC-32C, masked as in TFRecord files, where it is kept beside the bytes that it is of."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def note(problems: list[dict], path: str | os.PathLike, record: int, reason: str) -> None:
    """Add a row to a table of problems: file (its name), record (from 0), reason."""
    problems.append({"file": Path(path).name, "record": record, "reason": reason})


def read_records(path: str | os.PathLike, problems: list[dict]) -> Iterator[tuple[int, bytes]]:
    """Yield (index, payload) of each sound record; what is damaged becomes a row of `problems`.

    A wrong payload costs that record. A wrong length costs what lies before the next record that can be found: the
    indices after it count found records only.

    Args:
        path: TFRecord file, not compressed.
        problems: rows `file`, `record`, `reason` are added to it.
    """
    size = Path(path).stat().st_size
    if not size:
        note(problems, path, 0, "the file is empty")
        return
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = index = 0
        while start < size:
            end = _record_end(data, start)
            if end is None and not start and intake.sniff(path) not in (intake.RECORDS, intake.UNKNOWN):
                note(problems, path, 0, f"it is {intake.describe(path)}; expected a TFRecord file, not compressed")
                return
            if end is None:
                following = _find_record(data, start + 1)
                reason = "the length's checksum is wrong" if size - start >= HEADER else "cut off inside the header"
                note(problems, path, index, f"{reason}: {following - start} of the file's {size} bytes skipped")
                end = following
            elif end > size:
                note(problems, path, index, f"cut off: {size - start} of {end - start} bytes are there")
            else:
                payload = data[start + HEADER : end - FOOTER]
                if not _is_sound(data, payload, end):
                    note(problems, path, index, "the payload's checksum is wrong")
                else:
                    yield index, payload
            start, index = end, index + 1


def _record_end(data: mmap.mmap, start: int) -> int | None:
    """Where the record at `start` ends, or None where no header is."""
    header = data[start : start + HEADER]
    if len(header) < HEADER or checksum(header[:8]) != int.from_bytes(header[8:], "little"):
        return None
    return start + HEADER + int.from_bytes(header[:8], "little") + FOOTER


def _is_sound(data: mmap.mmap, payload: bytes, end: int) -> bool:
    return checksum(payload) == int.from_bytes(data[end - FOOTER : end], "little")


def _find_record(data: mmap.mmap, start: int) -> int:
    """Where the next record begins that is sound, payload included; the file's size where there is none."""
    for place in range(start, len(data) - HEADER - FOOTER + 1, SEARCH):
        part = np.frombuffer(data[place : place + SEARCH + HEADER - 1], np.uint8)
        windows = np.lib.stride_tricks.sliding_window_view(part, HEADER)
        lengths = np.ascontiguousarray(windows[:, :8]).view("<u8")[:, 0]
        # Only where a length is possible and not all is zero, as in a file that a download has set aside, is worth a checksum.
        possible = (lengths < len(data) - place) & windows.any(axis=1)
        for candidate in (place + np.flatnonzero(possible)).tolist():
            end = _record_end(data, candidate)
            if end and end <= len(data) and _is_sound(data, data[candidate + HEADER : end - FOOTER], end):
                return candidate
    return len(data)


def wrap(payload: bytes) -> bytes:
    """The record of a payload."""
    length = struct.pack("<Q", len(payload))
    return length + struct.pack("<I", checksum(length)) + payload + struct.pack("<I", checksum(payload))


def write_records(path: str | os.PathLike, payloads: Iterable[bytes]) -> int:
    """Write a TFRecord file, all or nothing, and return how many records it has."""
    count = 0
    with disk.atomic_write(path) as file:
        for payload in payloads:
            file.write(wrap(payload))
            count += 1
    return count
