"""Images of Open Images, one by one by their id, from the public copies: no account, no listing of millions of keys."""

import hashlib
import os
import re
import threading
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import requests

from helpers import runtime
from helpers.fetch import downloads
from helpers.fetch.downloads import SourceFailed, TryAgain
from helpers.workspace import disk

BASE = "https://open-images-dataset.s3.amazonaws.com"  # of the Common Visual Data Foundation; no account needed
ID = re.compile(r"[\w-]+")  # 16 hexadecimal digits in genuine files; never a path


def fetch_images(
    ids: Iterable[str],
    folder: str | os.PathLike,
    *,
    subset: str = "train",
    base_url: str = BASE,
    workers: int = 16,
    **options: float,
) -> pd.DataFrame:
    """Bring images to `folder` as `<id>.jpg`; those that are there and sound are not asked for again.

    Before it gets its name, each is compared with the MD5 that the server sends (S3's ETag, where it is one), looked at
    (first and last bytes of a JPEG) and decoded. After Ctrl-C or a kill, call again for the rest.

    Args:
        ids: image ids; repetitions count once.
        subset: "train", "validation" or "test": a folder on the server.
        base_url: the server; https (http on this machine only).
        workers: threads, each with one request at a time.
        **options: of `downloads.Patience`.

    Returns:
        One row per id: `image`, `outcome` ("ok", "missing": not on the server, "corrupt": came, but no sound JPEG, "failed":
        patience ended), `bytes` on disk, `detail` (why).

    Raises:
        OSError: the disk is full or read-only; nothing more is fetched.
        ValueError: an id that cannot be.
    """
    ids, folder = list(dict.fromkeys(ids)), Path(folder)
    if wrong := [name for name in ids if not (isinstance(name, str) and ID.fullmatch(name))]:
        raise ValueError(f"ids: received {wrong[:3]}; allowed: image ids such as '000002b66c9c498e', without .jpg")
    patience, stop = downloads.Patience(**options), threading.Event()
    with disk.explain_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    disk.remove_leftovers(folder)
    # libjpeg, inside cv2, writes about every damaged file to standard error
    with downloads.Session(patience.timeout) as session, runtime.quiet_stderr():
        session.mount(base_url, requests.adapters.HTTPAdapter(pool_maxsize=workers))
        one = partial(_fetch_one, session, f"{base_url.rstrip('/')}/{subset}", folder, patience, stop)
        rows = downloads.in_threads(one, ids, jobs=workers, label="images", unit="image", stop=stop)
    return pd.DataFrame(rows, columns=["image", "outcome", "bytes", "detail"])


def _fetch_one(
    session: requests.Session, base: str, folder: Path, patience: downloads.Patience, stop: threading.Event, name: str
) -> tuple[str, str, int, str]:
    path = folder / f"{name}.jpg"
    if path.is_file():
        if not check_jpeg(path.read_bytes()):
            return name, "ok", path.stat().st_size, "was there"
        path.unlink()
    try:
        content, reason = patience.insist(partial(_ask, session, f"{base}/{name}.jpg", stop))
    except SourceFailed as error:
        outcome = "missing" if str(error).startswith("HTTP 404") else "failed"
        return name, "corrupt" if isinstance(error.__cause__, _Damaged) else outcome, 0, str(error)
    if reason:
        return name, "corrupt", 0, reason
    disk.write(path, content)
    return name, "ok", len(content), ""


class _Damaged(TryAgain):
    """What came is no sound image, perhaps by the fault of this connection."""


def _ask(session: requests.Session, url: str, stop: threading.Event) -> tuple[bytes, str]:
    """Once: the content, and what is wrong with it on the server itself ("" if nothing)."""
    if stop.is_set():
        raise SourceFailed("stopped")
    response = session.get(url)
    tag = response.headers.get("ETag", "").strip('"')
    promised = tag if re.fullmatch(r"[0-9a-f]{32}", tag) else None  # that of an upload in parts is no MD5
    found = hashlib.md5(response.content, usedforsecurity=False).hexdigest()
    if promised not in (None, found):
        raise _Damaged(f"found MD5 {found}, the server promised {promised}")
    reason = check_jpeg(response.content)
    if reason and promised is None:
        raise _Damaged(reason)
    return response.content, reason


def check_jpeg(content: bytes) -> str:
    """What is wrong with the bytes of a JPEG file: no such magic, no end, not decodable; "" if nothing."""
    if content[:3] != b"\xff\xd8\xff":
        return "does not begin like a JPEG"
    if content[-2:] != b"\xff\xd9":
        return "is cut off: no end marker"
    # a smaller picture is computed, but all of the file is decoded
    flags = cv2.IMREAD_REDUCED_COLOR_8 | cv2.IMREAD_IGNORE_ORIENTATION
    return "" if cv2.imdecode(np.frombuffer(content, np.uint8), flags) is not None else "cannot be decoded"
