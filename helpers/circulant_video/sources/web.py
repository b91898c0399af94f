"""Files of which only the address is known: neither size nor checksum stand in a manifest."""

from pathlib import Path

import requests

from helpers.fetch import downloads, manifests


def _ask(url: str, method: str, options: dict) -> requests.Response:
    patience = downloads.Patience(**options)
    with downloads.Session(patience.timeout) as session:
        try:
            return patience.insist(lambda: session.request(method, url, allow_redirects=True))
        except downloads.SourceFailed as error:
            raise manifests.DownloadError(f"{url}: {error}") from error


def fetch_text(url: str, **options: float) -> str:
    """A small text file from its server, whose size nobody knows beforehand.

    Raises:
        manifests.DownloadError: it could not be had.
    """
    return _ask(url, "GET", options).content.decode("utf-8")


def fetch_file(url: str, path: Path, *, by_hand: str = "", **options: float) -> Path:
    """Fetch a large file of which only the address is known: the server tells its size first, which is checked in the end.

    Raises:
        manifests.DownloadError: it could not be had.
    """
    length = _ask(url, "HEAD", options).headers.get("Content-Length", "")
    if not length.isdigit() or int(length) == 0:
        raise manifests.DownloadError(
            f"{url}: the server does not say how large it is. By hand: {by_hand or 'a browser'}"
        )
    file = manifests.File(path.name, (manifests.Source(url=url),), size=int(length), by_hand=by_hand)
    return manifests.fetch(file, path.parent, **options)
