"""Whether the addresses that the course names still answer, with the sizes it expects; asked by HEAD, nothing is downloaded."""

import re
from collections.abc import Iterator, Sequence
from functools import partial

from helpers import runtime
from helpers.course.notebooks import COLAB
from helpers.fetch import downloads, manifests

LINK = re.compile(rf"{COLAB}/github/([\w.-]+/[\w.-]+)/blob/([\w./-]+\.ipynb)")
RAW = "https://raw.githubusercontent.com"


def ask(url: str, size: int | None = None, *, pinned: bool = False, **options: float) -> str:
    """What is wrong with the answer of an address, whose size in bytes may be known; "" if nothing.

    A host that refuses HEAD is asked by GET, whose body is not read.
    """
    patience, verify = downloads.Patience(**options), {"verify": False} if pinned else {}
    with downloads.Session(patience.timeout) as session:
        for method in ("HEAD", "GET"):
            request = partial(session.request, method, url, allow_redirects=True, stream=True, **verify)
            try:
                with patience.insist(request) as response:
                    found = downloads.length(response)
            except downloads.SourceFailed as error:
                problem = str(error)
                continue
            if size in (None, found):
                return ""
            problem = f"tells no size, expected {size} bytes"
            if found is not None:
                problem = f"announces {found} bytes, expected {size}"
        return problem


def of_manifests(names: Sequence[str] = ()) -> Iterator[tuple[str, manifests.Source, int | None]]:
    """File (`manifest/name`), source and size of every address in the manifests called `names`, default all of them."""
    folder = runtime.repo_root() / "data_manifests"
    for name in names or sorted(path.stem for path in folder.glob("*.yaml")):
        for file in manifests.load_manifest(name).files:
            yield from ((f"{name}/{file.name}", source, file.size) for source in file.sources if source.url)


def of_badges() -> list[tuple[str, str]]:
    """Each file with a Colab link, and where Colab takes the notebook from that the link names; the picture last."""
    root = runtime.repo_root()
    kinds = ("README.md", "notebooks/*.md", "notebooks/*/*.md", "notebooks/*/*.ipynb")
    found = []
    for path in (path for kind in kinds for path in sorted(root.glob(kind))):
        links = dict.fromkeys(LINK.findall(path.read_text(encoding="utf-8")))
        found += [(path.relative_to(root).as_posix(), f"{RAW}/{repository}/{place}") for repository, place in links]
    return [*found, ("the badges' picture", f"{COLAB}/assets/colab-badge.svg")]


def problems(names: Sequence[str] = (), **options: float) -> tuple[list[str], int]:
    """A line, file and address, for each that does not answer as it should, and how many were asked; without names badges too."""
    rows = [(label, source.url, size, source.tls == "pinned") for label, source, size in of_manifests(names)]
    rows += [] if names else [(label, url, None, False) for label, url in of_badges()]
    lines = [
        f"{label}: {url}: {problem}"
        for label, url, size, pinned in rows
        if (problem := ask(url, size, pinned=pinned, **options))
    ]
    return lines, len(rows)
