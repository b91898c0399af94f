"""The names of the labels: YouTube-8M's vocabulary and AudioSet's classes."""

import gzip
import os
import zlib
from pathlib import Path

import pandas as pd

from helpers import intake
from helpers.fetch import manifests


def read_vocabulary(path: str | os.PathLike, *, classes: int | None = None) -> pd.DataFrame:
    """Read YouTube-8M's `vocabulary.csv` or AudioSet's `class_labels_indices.csv`, also gzipped.

    The rows of YouTube-8M's file are sorted by number of videos, not by label, and some entities have no name.

    Args:
        classes: how many labels there must be, from 0 without a gap; not checked without.

    Returns:
        One row a label, in order, with the file's columns and `name`: the entity's name, or its id where that is empty.

    Raises:
        ValueError: no such table, a label twice, or not the labels that `classes` asks for.
    """
    try:
        table = pd.read_csv(path, keep_default_na=False)
    except (ValueError, OverflowError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        kind = intake.describe(path) or "a file of no known kind"
        raise ValueError(f"{Path(path).name}: {kind}, no vocabulary ({error!s:.100}); expected a CSV table") from error
    index, name, entity = (
        next((column for column in options if column in table), None)
        for options in (("Index", "index"), ("Name", "display_name"), ("KnowledgeGraphId", "mid"))
    )
    if index is None or name is None or entity is None:
        raise ValueError(
            f"{Path(path).name} is no vocabulary: received columns {', '.join(table)}; expected Index, Name, KnowledgeGraphId"
        )
    table = table.set_index(index).sort_index().rename_axis("label")
    table["name"] = table[name].where(table[name] != "", table[entity])
    if not table.index.is_unique or (classes is not None and table.index.tolist() != list(range(classes))):
        wanted = "each label once" if classes is None else f"each label from 0 to {classes - 1} once"
        raise ValueError(
            f"{Path(path).name}: received {len(table)} rows up to label {table.index.max()}; expected {wanted}"
        )
    return table


def make_table(url: str, path: Path, classes: int) -> None:
    """Fetch a vocabulary to `path` and check that it has so many labels."""
    path.write_bytes(manifests.ask(url).content)
    read_vocabulary(path, classes=classes)


def fetch_names(source: str, cache: Path) -> Path | None:
    """The vocabulary of "youtube8m" or "audioset" in the folder `cache`; where it cannot be had, a line says so.

    Nothing is trained on names: without them figures show the labels' numbers.
    """
    table = next(file for file in manifests.load_manifest(source).files if file.name.endswith(".csv"))
    try:
        return manifests.fetch(table, cache)
    except manifests.DownloadError as error:
        print(f"{error}\nGoing on without it: labels are shown by their numbers.")
        return None
