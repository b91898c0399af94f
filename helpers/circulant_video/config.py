"""The configuration of the circulant-video project: every setting with its default and limits; YAML files say what differs."""

from dataclasses import dataclass

from helpers import estimates
from helpers.circulant_video.experiments import EXPERIMENTS, TENSORS, arguments, count_weights, run_names, widths
from helpers.config import BaseConfig, Needs, option, problems_between
from helpers.estimates import Network

SHARD = {"train": 250e6, "validate": 70e6}  # bytes and videos, and 3 844 of each: data_manifests/youtube8m.yaml
VIDEOS = {"train": 3_888_919, "validate": 1_112_356}
RATES = {"read": 3500, "convert": 950}  # videos a second, on two cores and on one: tests/benchmarks/input_rates.py


@dataclass(frozen=True, kw_only=True)
class CirculantVideoConfig(BaseConfig):
    """Every setting of the five steps; `notebooks/circulant_video/*.yaml` give the values."""

    source: str = option(choices=("mini", "youtube8m", "audioset", "local"), help="where the TFRecord files come from")
    local_folder: str | None = option(None, help="source local: folder of .tfrecord files")
    shard_part: int = option(1, low=1, help="source youtube8m: which part of the shards")
    shard_of: int = option(1000, low=1, help="source youtube8m: into how many parts")
    mirror: str = option("us", choices=("us", "eu", "asia"), help="source youtube8m: which server")
    keep_records: bool = option(True, help="source youtube8m: false converts, halves the disk")

    feature_names: tuple[str, ...] = option(("rgb", "audio"), help="feature lists of a record")
    feature_sizes: tuple[int, ...] = option((1024, 128), low=1, help="bytes of one frame, per feature")
    classes: int = option(3862, low=2, help="number of labels")
    max_frames: int = option(300, low=1, help="longer videos are cropped")

    split_rule: str = option("paper", choices=("paper", "official"), help="paper: most validate shards train too")

    experiments: tuple[str, ...] = option(("start",), choices=tuple(EXPERIMENTS), help="which experiments")
    seeds: tuple[int, ...] = option((0, 1, 2), low=0, help="every network is trained once per seed")
    clusters: int = option(8192, low=2, help="clusters of DBoF, video; audio half")
    vlad_clusters: int = option(64, low=2, help="clusters of NetVLAD and NetFV, video; audio half")
    hidden: int = option(512, low=1, help="width of the fully connected layer")
    mixtures: int = option(4, low=1, help="experts per class")
    bags: int = option(10, low=1, help="sets of frames per video")
    iterations: int = option(15, low=1, help="frames per set")
    halves: bool = option(True, help="train on both halves of every video")
    initializer: str = option("paper", choices=("original", "paper"), help="how circulant layers begin")
    momentum: float = option(0.999, low=0.0, high=0.9999, help="of batch normalisation")
    batch_size: int = option(80, low=1, help="videos per step, before halving")
    epochs: int = option(15, low=1, help="passes over the training videos")
    learning_rate: float = option(2e-4, above=0.0, help="Adam's, at the start")
    decay: float = option(0.8, above=0.0, high=1.0, help="factor of the staircase")
    decay_examples: int = option(4_000_000, low=1, help="videos between two steps of the staircase")
    watch_videos: int = option(1000, low=1, help="held-out videos scored after every epoch")

    def needs(self) -> dict[str, Needs]:
        """See `BaseConfig.needs`; a part of the shards is taken to be as large as the mean of all parts."""
        if self.source != "youtube8m":
            return {}
        size = 3844 / self.shard_of * sum(SHARD.values())
        train, held = (count / self.shard_of for count in VIDEOS.values())
        if self.split_rule == "paper":  # most of the shards of validate train too
            train, held = train + held * 3224 / 3844, held * 620 / 3844
        networks = [network_of(self, name) for name in run_names(self.experiments, features=len(self.feature_sizes))]
        seen = {"precision": self.precision, "rate": RATES["read"]}
        trainings = [
            estimates.training(
                network,
                self.epochs * train,
                batch=self.batch_size,
                saves=estimates.count_saves(self, epochs=self.epochs, steps=train // self.batch_size),
                watched=self.epochs * min(self.watch_videos, held),
                item=self.max_frames * sum(self.feature_sizes),
                **seen,
            )
            for network in networks
            for _ in self.seeds
        ]
        scored = len(self.seeds) * sum(estimates.using(network, held, **seen) for network in networks)
        converting = (train + held) / RATES["convert"] / 2  # seconds; plain arrays are as large again
        looked_at = min(size, 9 * sum(SHARD.values()))
        building, preparing = (size, 0.0) if self.keep_records else (looked_at, size - looked_at)
        return {
            "build_dataset": estimates.fetching(building),
            "preprocess": estimates.fetching(preparing, disk=size, seconds=converting),
            "train": estimates.together(*trainings),
            "evaluate": Needs(memory=estimates.LIBRARIES, gpu_memory=trainings[0].gpu_memory, minutes=scored),
        }

    def __post_init__(self) -> None:
        problems_between(
            (self.source == "local" and not self.local_folder,
             "local_folder: missing, needed with source: local; allowed: a folder of .tfrecord files"),
            (len(self.feature_names) != len(self.feature_sizes) or not self.feature_names,
             f"feature_sizes: received {len(self.feature_sizes)} for {len(self.feature_names)} feature_names; "
             "allowed: one size per name, at least one"),
            (self.shard_part > self.shard_of, f"shard_part: received {self.shard_part}; allowed: 1 to shard_of ({self.shard_of})"),
            (not self.experiments, f"experiments: received none; allowed: a list of {', '.join(EXPERIMENTS)}"),
            (not self.seeds, "seeds: received none; allowed: a list of whole numbers"),
        )  # fmt: skip


def network_of(config: CirculantVideoConfig, name: str) -> Network:
    """What a network costs a video, computed from its matrices; a compact layer works as a dense one, which it never exceeds."""
    options = arguments(name, config)
    kind, hidden, rank = options.get("embedding", "dbof"), options["hidden"], options.get("rank")
    parts = widths(**options)
    embedding, wide = sum(size * clusters for size, clusters, _ in parts), sum(vector for *_, vector in parts)
    frames = config.bags * config.iterations if kind == "dbof" else config.max_frames // 2
    connected = rank * (wide + hidden * len(parts)) if rank else wide * hidden
    gating = config.classes**2 * (options.get("gating") is not False)
    last = connected + hidden * len(parts) * config.classes * (2 * config.mixtures + 1) + gating
    copies = 2 if config.halves else 1  # of a video, each an example
    made = 34 * frames * wide + 2e6 if kind == "dbof" else 480 * wide  # bytes, as tests/test_settings.py counts them
    flops = 2 * (TENSORS[kind] * frames * embedding + last)  # products of assignment, sums, sums of squares
    return Network(flops=copies * flops, parameters=count_weights(**options), made=copies * made)
