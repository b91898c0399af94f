"""The configuration of the temporal-coherence project: one frozen dataclass, one YAML file per setting."""

from dataclasses import dataclass

from helpers.config import BaseConfig, option, problems_between

SPORTS = (
    "Archery",
    "Billiards",
    "Bowling",
    "GolfSwing",
    "HammerThrow",
    "HorseRace",
    "Rowing",
    "Skiing",
    "SoccerPenalty",
    "TennisSwing",
)
LOSSES = ("contrastive", "linear", "inverted", "quadruplet", "nt_xent")


@dataclass(frozen=True, kw_only=True)
class TemporalCoherenceConfig(BaseConfig):
    """Every setting of the five steps; `notebooks/temporal_coherence/*.yaml` give the values."""

    source: str = option(choices=("mini", "ucf101", "local"), help="where the clips come from")
    local_folder: str | None = option(None, help="source local: a folder Class/clip.avi")
    classes: tuple[str, ...] = option(SPORTS, help="classes to use; an empty list takes all")
    fold: int = option(1, low=1, high=3, help="which of the three official splits")
    seed: int = option(0, low=0, help="seed of every random choice")

    step: int = option(10, low=1, help="a query frame every so many frames")
    negative_every: int = option(5, low=1, help="every so many pairs one is negative")
    gap: int = option(1, low=1, help="frames between the two of a positive pair")
    size: int = option(227, low=35, help="frames are resized to size x size pixels")
    quality: int = option(95, low=1, high=100, help="JPEG quality of the frames")

    split_by: str = option("official", choices=("official", "group", "clip"), help="what stays together in a split")
    test_share: float = option(0.3, above=0.0, high=0.9, help="split_by group or clip: share of them for testing")
    validation_groups: int = option(3, low=1, help="training groups per class kept aside")

    variant: str = option("paper", choices=("seed", "paper", "tiny"), help="which trunk")
    embedding_dim: int = option(4096, low=2, help="length of an embedding")
    normalize: bool = option(True, help="scale embeddings to length 1 before the loss")
    loss: str = option("contrastive", choices=LOSSES, help="the loss of the main network")
    compare: tuple[str, ...] = option((), choices=LOSSES, help="losses trained beside it, same start and budget")
    margin: float = option(1.0, above=0.0, help="distance that a negative pair should reach")
    negatives: str = option(
        "clean", choices=("clean", "other_group", "seed"), help="where partners of negative pairs come from"
    )
    augment: bool = option(False, help="nt_xent: random crop, flip and colour")

    optimizer: str = option("sgd", choices=("sgd", "adam"), help="SGD with momentum 0.9, or Adam")
    learning_rate: float = option(1e-3, above=0.0, help="learning rate of the first step")
    schedule: str = option("steps", choices=("constant", "steps", "thesis"), help="steps: a tenth at 1/3 and 2/3")
    batch_size: int = option(64, low=2, help="pairs per training step")
    epochs: int = option(30, low=1, help="passes over the training pairs")

    clusters: int | None = option(None, low=2, help="k of k-means; null: one per class")
    cluster_seeds: int = option(3, low=1, help="k-means runs, for mean and spread")
    tsne_frames: int = option(1500, low=50, help="frames on the t-SNE plane")
    label_shares: tuple[float, ...] = option(
        (0.1, 1.0), above=0.0, high=1.0, help="fine-tuning: share of labelled clips"
    )
    finetune_steps: int = option(300, low=1, help="training steps of each fine-tuning run")

    def __post_init__(self) -> None:
        problems_between(
            (
                self.source == "local" and not self.local_folder,
                "local_folder: missing, needed with source: local; allowed: a folder that holds Class/clip.avi",
            ),
            (
                self.source == "local" and self.split_by == "official",
                "split_by: received 'official' with source: local; allowed: group, clip (your clips are in no official list)",
            ),
            (
                self.source == "mini" and self.fold != 1,
                f"fold: received {self.fold} with source: mini; allowed: 1 (the drawn clips come with the lists of fold 1)",
            ),
            (
                self.gap > self.step,
                f"gap: received {self.gap}, more than step ({self.step}); allowed: 1 to step",
            ),
        )
