"""Which networks the experiments compare. A network that two experiments share has one name and is trained once."""

import math
from typing import Any


def _with_rivals(family: str, **own: Any) -> dict[str, dict]:
    """A dense network, two small ones that are as large as its compact twin, and this twin."""
    changes = {
        "": {},
        " narrow": {"as_small_as": f"{family} fc"},
        " low rank": {"rank": 2},
        " fc": {"compact": ("fc",)},
    }
    return {family + name: own | change for name, change in changes.items()}


RUNS = {  # name -> what differs from the dense DBoF network on all features; what is added here is trained, too
    **_with_rivals("dbof"),
    **_with_rivals("netvlad", embedding="netvlad"),
    **_with_rivals("netfv", embedding="netfv"),
    **_with_rivals("video", branches=1),
    "dbof original fc": {"compact": ("fc",), "initializer": "original"},
    "dbof fixed fc": {"compact": ("fc",), "diagonal": "fixed"},
    "dbof embedding": {"compact": ("embedding",)},
    "dbof all": {"compact": ("embedding", "fc", "moe")},
    "video embedding": {"branches": 1, "compact": ("embedding",)},
    "video plain": {"branches": 1, "gating": False},
    "video plain narrow": {"branches": 1, "gating": False, "as_small_as": "video moe"},
    "video moe": {"branches": 1, "compact": ("moe",)},
    "video moe gated": {"branches": 1, "compact": ("moe",), "gating": True},
}
EXPERIMENTS = {
    "start": (*_with_rivals("dbof"), "dbof original fc", "dbof fixed fc"),
    "netvlad": (*_with_rivals("netvlad"),),
    "netfv": (*_with_rivals("netfv"),),
    "video": (*_with_rivals("video"), "video embedding"),
    "experts": ("video plain", "video plain narrow", "video moe"),
    # as published, without rivals of the same size
    "diagonal": ("dbof fc", "dbof fixed fc"),
    "embeddings": ("dbof", "dbof fc", "netvlad", "netvlad fc", "netfv", "netfv fc"),
    "layers": ("video", "video embedding", "video fc", "video moe", "video moe gated"),
    "together": ("dbof", "dbof fc", "dbof embedding", "dbof all"),
}
PUBLISHED = ("dbof", "dbof fc")  # whose weights come with the course: dense, and compact
# Of the config.
SHARED = ("feature_sizes", "classes", "hidden", "mixtures", "bags", "iterations", "momentum", "initializer")
KNOWN = frozenset(RUNS)
TENSORS = {"dbof": 1, "netvlad": 2, "netfv": 3}  # as large as the matrix of an embedding: with centres, with widths


def run_names(experiments: tuple[str, ...], *, features: int) -> list[str]:
    """The networks of some of `EXPERIMENTS`, each once, and those that were added to `RUNS` after this module was imported.

    With one feature in the data, "video" and "dbof" are the same network, and the latter's name is kept.
    """
    names = [name for experiment in experiments for name in EXPERIMENTS[experiment]]
    names += [name for name in RUNS if name not in KNOWN]
    if features == 1:
        names = [name.replace("video", "dbof") for name in names]
    return list(dict.fromkeys(names))


def own_arguments(name: str, *, features: int) -> dict:
    """What one network of `run_names` changes in `model.build_classifier`; "as_small_as" stands for a `hidden`, see `arguments`.

    Raises:
        KeyError: no such network.
    """
    own = RUNS[name if name in RUNS else name.replace("dbof", "video", 1)]
    return {key: value for key, value in own.items() if key != "branches" or features > 1}


def arguments(name: str, config: Any) -> dict[str, Any]:
    """Of `model.build_classifier`, for one network; a narrow one is as wide as its compact twin's number of weights allows."""
    own = own_arguments(name, features=len(config.feature_sizes))
    clusters = config.clusters if own.get("embedding", "dbof") == "dbof" else config.vlad_clusters
    found = {key: getattr(config, key) for key in SHARED} | {"clusters": clusters} | own
    if twin := found.pop("as_small_as", None):
        limit = count_weights(**arguments(twin, config))
        fits = (size for size in range(found["hidden"], 1, -1) if count_weights(**found | {"hidden": size}) <= limit)
        found["hidden"] = next(fits, 1)
    return found


def widths(
    *, feature_sizes: tuple[int, ...], clusters: int, embedding: str = "dbof", branches: int | None = None, **_: Any
) -> list[tuple[int, int, int]]:
    """For each feature that a network uses: numbers in a frame, clusters, numbers in its vector."""
    parts = [(size, clusters // (2 if place else 1)) for place, size in enumerate(feature_sizes[:branches])]
    return [(size, count, count * {"dbof": 1, "netvlad": size, "netfv": 2 * size}[embedding]) for size, count in parts]


def count_weights(
    *, classes: int, hidden: int, mixtures: int, embedding: str = "dbof", compact: tuple[str, ...] = (), factors: int = 1,
    rank: int | None = None, gating: bool | None = None, **sizes: Any,
) -> int:  # fmt: skip
    """All weights of a network, moving averages included, from the widths of its layers, without building it."""

    def matrix(inputs: int, outputs: int, part: str, *, vectors: int = 2 * factors) -> int:
        return vectors * inputs * math.ceil(outputs / inputs) if part in compact else inputs * outputs

    parts, total = widths(embedding=embedding, **sizes), 0
    for size, clusters, wide in parts:
        total += TENSORS[embedding] * matrix(size, clusters, "embedding")
        total += rank * (wide + hidden) if rank else matrix(wide, hidden, "fc")
        total += 4 * (clusters + hidden)  # batch normalisation
    inputs, gated = hidden * len(parts), "moe" not in compact if gating is None else gating
    total += sum(matrix(inputs, classes * count, "moe", vectors=1) for count in (mixtures, mixtures + 1))
    return total + classes * mixtures + gated * (classes**2 + 4 * classes)


def run_folder(name: str, seed: int) -> str:
    """Name of the folder of one training, such as "dbof_fc-0"."""
    return f"{name.replace(' ', '_')}-{seed}"
