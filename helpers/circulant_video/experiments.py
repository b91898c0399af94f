"""Which networks the experiments compare. A network that two experiments share has one name and is trained once."""

RUNS = {  # name -> what differs from the dense DBoF network on all features
    "dbof": {},
    "dbof fc": {"compact": ("fc",)},
    "dbof fixed fc": {"compact": ("fc",), "diagonal": "fixed"},
    "dbof embedding": {"compact": ("embedding",)},
    "dbof all": {"compact": ("embedding", "fc", "moe")},
    "netvlad": {"embedding": "netvlad"},
    "netvlad fc": {"embedding": "netvlad", "compact": ("fc",)},
    "netfv": {"embedding": "netfv"},
    "netfv fc": {"embedding": "netfv", "compact": ("fc",)},
    "video": {"branches": 1},
    "video embedding": {"branches": 1, "compact": ("embedding",)},
    "video fc": {"branches": 1, "compact": ("fc",)},
    "video moe": {"branches": 1, "compact": ("moe",)},
    "video moe gated": {"branches": 1, "compact": ("moe",), "gating": True},
}
EXPERIMENTS = {
    "diagonal": ("dbof fc", "dbof fixed fc"),
    "embeddings": ("dbof", "dbof fc", "netvlad", "netvlad fc", "netfv", "netfv fc"),
    "layers": ("video", "video embedding", "video fc", "video moe", "video moe gated"),
    "parts": ("dbof", "dbof fc", "dbof embedding", "dbof all"),
}


def run_names(experiments: tuple[str, ...], *, features: int) -> list[str]:
    """The networks of some experiments, each once.

    Args:
        experiments: names of `EXPERIMENTS`.
        features: features of the data; with one, "video" and "dbof" are the same network, and the latter's name is kept.
    """
    names = [name for experiment in experiments for name in EXPERIMENTS[experiment]]
    if features == 1:
        names = [name.replace("video", "dbof") for name in names]
    return list(dict.fromkeys(names))


def own_arguments(name: str, *, features: int) -> dict:
    """What one network of `run_names` changes in `model.build_classifier`.

    Raises:
        KeyError: no such network.
    """
    own = RUNS[name if name in RUNS else name.replace("dbof", "video", 1)]
    return {key: value for key, value in own.items() if key != "branches" or features > 1}


def run_folder(name: str, seed: int) -> str:
    """Name of the folder of one training, such as "dbof_fc-0"."""
    return f"{name.replace(' ', '_')}-{seed}"
