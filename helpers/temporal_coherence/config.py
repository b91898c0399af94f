"""The configuration of the temporal-coherence project: every setting with its default and limits; YAML files say what differs."""

from dataclasses import dataclass, replace

from helpers import estimates
from helpers.config import BaseConfig, Needs, option, problems_between
from helpers.estimates import Network
from helpers.temporal_coherence.augment import CHANGES

CLIPS = {  # of UCF101's ten sports, data_manifests/ucf101.yaml
    **{"Archery": 145, "Billiards": 150, "Bowling": 155, "GolfSwing": 139, "HammerThrow": 150, "HorseRace": 124},
    **{"Rowing": 137, "Skiing": 135, "SoccerPenalty": 137, "TennisSwing": 166},
}
SPORTS = tuple(CLIPS)
LOSSES = ("contrastive", "linear", "inverted", "quadruplet", "nt_xent", "labels")
INPUTS, SPLITS = ("frames", "differences"), ("official", "group", "clip", "room")
NEGATIVES = ("clean", "other_group", "seed")
POSITIVES = ("next", "same", "clip", "group")

CLIP = 6_960_400_115 / 13_320  # bytes, of the archive
LENGTH = 187.5  # frames of a clip, mean of fold 1 (dbcollection's documentation)
FRAME = 23e3 / 227**2  # bytes a pixel of a JPEG of quality 95: photos, tests/benchmarks/input_rates.py
RATES = {"pair": 400, "augmented pair": 100}  # a second, of 227 pixels on two cores, measured there
NETWORKS = {  # a frame of 227 pixels, embeddings of 4096; counted in the networks by tests/test_settings.py
    "seed": Network(flops=3.41e9, parameters=62.94e6, made=23.3e6),
    "paper": Network(flops=2.52e9, parameters=77.72e6, made=48.3e6),
}


@dataclass(frozen=True, kw_only=True)
class TemporalCoherenceConfig(BaseConfig):
    """Every setting of the five steps; `notebooks/temporal_coherence/*.yaml` give the values."""

    source: str = option(choices=("mini", "ucf101", "local"), help="where the clips come from")
    local_folder: str | None = option(None, help="source local: a folder Class/clip.avi")
    classes: tuple[str, ...] = option(SPORTS, help="classes to use; an empty list takes all")
    more_groups: int = option(0, low=0, high=80, help="source mini: more training groups per class")
    fold: int = option(1, low=1, high=3, help="which of the three official splits")
    seed: int = option(0, low=0, help="seed of every random choice")

    step: int = option(10, low=1, help="a query frame every so many frames")
    negative_every: int = option(5, low=1, help="every so many pairs one is negative")
    gap: int = option(1, low=1, help="frames between the two of a positive pair")
    size: int = option(227, low=35, help="frames are resized to size x size pixels")
    quality: int = option(95, low=1, high=100, help="JPEG quality of the frames")

    split_by: str = option("official", choices=SPLITS, help="what stays together in a split")
    test_room: str = option("", help="split_by room: a part of the tested clips' paths")
    test_share: float = option(0.3, above=0.0, high=0.9, help="split_by group or clip: share of them for testing")
    validation_groups: int = option(3, low=0, help="training groups per class kept aside; 0: none")

    variant: str = option("paper", choices=("seed", "paper", "tiny"), help="which trunk")
    embedding_dim: int = option(4096, low=2, help="length of an embedding")
    normalize: bool = option(True, help="scale embeddings to length 1 before the loss")
    loss: str = option("contrastive", choices=LOSSES, help="the loss of the main network")
    compare: tuple[str, ...] = option((), choices=LOSSES, help="losses trained beside it, same start and budget")
    margin: float = option(1.0, above=0.0, help="distance that a negative pair should reach")
    temperature: float = option(0.2, above=0.0, help="nt_xent: divides the cosines")
    negatives: str = option("clean", choices=NEGATIVES, help="where partners of negative pairs come from")
    inputs: str = option("frames", choices=INPUTS, help="what the network sees: frames, or what changed")
    positives: str = option("next", choices=POSITIVES, help="nt_xent: what belongs to a frame")
    augment: tuple[str, ...] = option((), choices=CHANGES, help="nt_xent, labels: what is changed by chance")

    optimizer: str = option("sgd", choices=("sgd", "adam"), help="SGD with momentum 0.9, or Adam")
    learning_rate: float = option(1e-3, above=0.0, help="learning rate of the first step")
    schedule: str = option("steps", choices=("constant", "steps", "thesis"), help="steps: a tenth at 1/3 and 2/3")
    batch_size: int = option(64, low=2, help="pairs per training step")
    epochs: int = option(30, low=1, help="passes over the training pairs")

    clusters: int | None = option(None, low=2, help="k of k-means; null: one per class")
    cluster_seeds: int = option(3, low=1, help="k-means runs, for mean and spread")
    tsne_frames: int = option(1500, low=50, help="frames on the t-SNE plane")
    label_shares: tuple[float, ...] = option((0.1, 1.0), above=0.0, high=1.0, help="shares of labels to fine-tune with")
    finetune_steps: int = option(300, low=1, help="training steps of each fine-tuning run")

    def needs(self) -> dict[str, Needs]:
        """See `BaseConfig.needs`; of fold 1 and its kin, where 28 % of the clips are for the test."""
        if self.source != "ucf101" or self.variant not in NETWORKS:
            return {}
        clips = sum(CLIPS.get(name, 132) for name in self.classes) or 13_320  # 132: mean of all classes
        pairs = clips * LENGTH / self.step
        frame = FRAME * self.size**2
        train = 0.716 * pairs * (1 - self.validation_groups / 18)  # of the 18 groups of a class
        network, area = network_of(self), (self.size / 227) ** 2
        options = {"precision": self.precision, "item": 12 * self.size**2}
        trainings = [
            estimates.training(
                replace(network, flops=2 * network.flops, made=2 * network.made),  # both frames of a pair
                self.epochs * train,
                batch=self.batch_size,
                rate=RATES["augmented pair" if loss == "nt_xent" and self.augment else "pair"] / area,
                saves=estimates.count_saves(self, epochs=self.epochs, steps=train // self.batch_size),
                slots=1 if self.optimizer == "sgd" else 2,
                watched=400 * self.epochs,
                **options,
            )
            for loss in dict.fromkeys((self.loss, *self.compare))
        ]
        images = {"rate": 2 * RATES["pair"] / area, "precision": self.precision}
        tuning = estimates.training(
            network, self.finetune_steps * self.batch_size, batch=self.batch_size, saves=2, keep=1, **(options | images)
        )
        runs = len(self.label_shares) * (1 + len(trainings))
        embedding = estimates.using(network, (1 + len(trainings)) * (0.284 * pairs + train), **images)
        return {
            # a request each, four at a time; assumed
            "build_dataset": estimates.fetching(clips * CLIP, seconds=clips * 0.1),
            # 0.31 s a clip, as the thesis measured on its machine
            "preprocess": Needs(disk=pairs * (2 - 1 / self.negative_every) * frame, minutes=clips * 0.31 / 60),
            "train": estimates.together(*trainings),
            # One classifier at a time is on the local disk, none on Drive.
            "evaluate": replace(tuning, minutes=runs * tuning.minutes + embedding, written=0),
        }

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
                self.more_groups > 0 and (self.source, self.split_by) != ("mini", "official"),
                f"more_groups: received {self.more_groups} with source: {self.source} and split_by: {self.split_by}; allowed: 0, "
                "or source: mini with split_by: official (only its clips are drawn, and only its lists keep the test as it is)",
            ),
            (self.gap > self.step, f"gap: received {self.gap}, more than step ({self.step}); allowed: 1 to step"),
        )


def network_of(config: TemporalCoherenceConfig) -> Network:
    """What the trunk of a config costs a frame: of another size about so much by its area."""
    one, area, last = NETWORKS[config.variant], (config.size / 227) ** 2, 4096 * (4096 - config.embedding_dim)
    return Network(flops=one.flops * area - 2 * last, parameters=one.parameters - last, made=one.made * area)
