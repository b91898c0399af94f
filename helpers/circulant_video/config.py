"""The configuration of the circulant-video project: one frozen dataclass, one YAML file per setting."""

from dataclasses import dataclass

from helpers.circulant_video.experiments import EXPERIMENTS
from helpers.config import BaseConfig, option, problems_between


@dataclass(frozen=True, kw_only=True)
class CirculantVideoConfig(BaseConfig):
    """Every setting of the five steps; `notebooks/circulant_video/*.yaml` give the values."""

    source: str = option(choices=("mini", "youtube8m", "audioset", "local"), help="where the TFRecord files come from")
    local_folder: str | None = option(None, help="source local: folder of .tfrecord files")
    shard_part: int = option(1, low=1, help="source youtube8m: which part of the shards")
    shard_of: int = option(1000, low=1, help="source youtube8m: into how many parts")
    mirror: str = option("us", choices=("us", "eu", "asia"), help="source youtube8m: which server")

    feature_names: tuple[str, ...] = option(("rgb", "audio"), help="feature lists of a record")
    feature_sizes: tuple[int, ...] = option((1024, 128), low=1, help="bytes of one frame, per feature")
    classes: int = option(3862, low=2, help="number of labels")
    max_frames: int = option(300, low=1, help="longer videos are cropped")

    split_rule: str = option("paper", choices=("paper", "official"), help="paper: most validate shards train too")

    experiments: tuple[str, ...] = option(tuple(EXPERIMENTS), choices=tuple(EXPERIMENTS), help="which experiments")
    seeds: tuple[int, ...] = option((0, 1, 2), low=0, help="every network is trained once per seed")
    clusters: int = option(8192, low=2, help="clusters of DBoF, video; audio half")
    vlad_clusters: int = option(64, low=2, help="clusters of NetVLAD and NetFV, video; audio half")
    hidden: int = option(512, low=1, help="width of the fully connected layer")
    mixtures: int = option(4, low=1, help="experts per class")
    bags: int = option(10, low=1, help="sets of frames per video")
    iterations: int = option(15, low=1, help="frames per set")
    halves: bool = option(True, help="train on both halves of every video")
    momentum: float = option(0.999, low=0.0, high=0.9999, help="of batch normalisation")
    batch_size: int = option(80, low=1, help="videos per step, before halving")
    epochs: int = option(15, low=1, help="passes over the training videos")
    learning_rate: float = option(2e-4, above=0.0, help="Adam's, at the start")
    decay: float = option(0.8, above=0.0, high=1.0, help="factor of the staircase")
    decay_examples: int = option(4_000_000, low=1, help="videos between two steps of the staircase")
    watch_videos: int = option(1000, low=1, help="held-out videos scored after every epoch")

    def __post_init__(self) -> None:
        problems_between(
            (
                self.source == "local" and not self.local_folder,
                "local_folder: missing, needed with source: local; allowed: a folder of .tfrecord files",
            ),
            (
                len(self.feature_names) != len(self.feature_sizes) or not self.feature_names,
                f"feature_sizes: received {len(self.feature_sizes)} for {len(self.feature_names)} feature_names; "
                "allowed: one size per name, at least one",
            ),
            (
                self.shard_part > self.shard_of,
                f"shard_part: received {self.shard_part}; allowed: 1 to shard_of ({self.shard_of})",
            ),
            (not self.experiments, f"experiments: received none; allowed: a list of {', '.join(EXPERIMENTS)}"),
            (not self.seeds, "seeds: received none; allowed: a list of whole numbers"),
        )
