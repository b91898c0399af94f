"""The configuration of the face-animation project: every setting with its default and limits; YAML files say what differs."""

from dataclasses import dataclass
from pathlib import Path

from helpers import estimates
from helpers.config import BaseConfig, Needs, option, problems_between
from helpers.estimates import Network

VARIANTS = ("fomm", "fomm_6b", "unet", "unet3plus")
NETWORKS = ("tiny64", "small128", "vox256")
# A pair with all terms of the loss but the discriminator's, billions of operations; millions of parameters; MB. Counted in the
# networks by tests/test_settings.py, like what a discriminator adds and what drawing a frame takes.
WORKS = {
    "small128": {
        "fomm": (37.7, 4.70, 454), "fomm_6b": (37.7, 6.17, 466), "unet": (38.8, 5.68, 463), "unet3plus": (39.5, 5.11, 466),
    },
    "vox256": {
        "fomm": (212.5, 59.8, 2442), "fomm_6b": (212.7, 83.4, 2619), "unet": (218.2, 75.5, 2460), "unet3plus": (228.7, 60.2, 2415),
    },
}  # fmt: skip
JUDGE = {"small128": (2.15, 0.70, 65), "vox256": (36.1, 2.77, 494)}
SIZE = {"small128": 128, "vox256": 256}
DRAWING = {"small128": 6.3e9, "vox256": 89e9}  # operations a frame, mean of the variants
FRAME = 300e9 / 4_136_704 / 256**2  # bytes a pixel of a PNG: 300 GB of VoxCeleb's frames, data_manifests/voxceleb.yaml
RATES = {"pairs": 40 * 256**2, "frames": 80 * 256**2}  # pixels a second on two cores: tests/benchmarks/input_rates.py
VGG19 = 80_134_624  # bytes of Keras's file without its dense layers
ACTOR = 557e6  # bytes of RAVDESS's archive of an actor, and 60 clips of about 115 frames: data_manifests/ravdess.yaml


@dataclass(frozen=True, kw_only=True)
class FaceAnimationConfig(BaseConfig):
    """Every setting of the five steps; `notebooks/face_animation/*.yaml` give the values."""

    source: str = option(choices=("mini", "ravdess", "voxceleb", "local"), help="where the clips come from")
    local_folder: str | None = option(None, help="own clips, or for voxceleb own copies of its videos")
    more_puppets: int = option(0, low=0, high=240, help="source mini: puppets beside the 32 that train")
    actors: tuple[int, ...] = option((1, 2, 3, 4, 5, 6, 7, 8), low=1, high=24, help="source ravdess: which actors")
    test_actors: int = option(2, low=1, help="source ravdess: so many of the last are the test")
    size: int = option(256, low=32, help="side of the frames in pixels")
    form: str = option("png", choices=("png", "mp4"), help="clips are folders of pictures, or videos")

    drop_shared: bool = option(False, help="no person of the test in training")
    group_size: int | None = option(None, low=1, help="clips in a group")
    n_groups: int | None = option(None, low=1, help="or: how many groups")
    by_person: bool = option(False, help="no person is in two groups")
    drop_remainder: bool = option(False, help="all groups of exactly one size")
    group: int = option(0, low=0, help="the group that is trained on, from 0")
    seed: int = option(42, low=0, help="seed of every random choice")
    pairs: int = option(50, low=1, help="pairs of clips to animate")
    pairs_file: str | None = option(None, help="CSV of pairs: columns source, driving")

    variants: tuple[str, ...] = option(VARIANTS, choices=VARIANTS, help="keypoint detectors to compare")
    network: str = option("vox256", choices=NETWORKS, help="widths of all networks")
    generator: str = option("paper", choices=("paper", "skip"), help="skip: the warped source is in the last blend")
    scale: float | None = option(None, above=0.0, high=1.0, help="of the frames that see motion; null: network's")
    align_corners: bool = option(True, help="true as the published weights; false as PyTorch now")
    checkpoint: str | None = option(None, help="published .pth.tar to start from (fomm only)")

    perceptual: str = option("vgg19", choices=("vgg19", "stand_in"), help="features that compare two pictures")
    perceptual_weight: float = option(10.0, low=0.0, help="of each level of the features")
    warped_weight: float = option(0.0, low=0.0, help="the same for the warped source (generator skip)")
    equivariance_value: float = option(10.0, low=0.0, help="weight: keypoints move with the picture")
    equivariance_jacobian: float = option(10.0, low=0.0, help="weight: and bend with it")
    generator_gan: float = option(1.0, low=0.0, help="weight of the discriminator's view; 0: none")
    feature_matching: float = option(10.0, low=0.0, help="weight of what it sees in its layers")
    discriminator_keypoints: bool = option(True, help="the discriminator sees the keypoints")
    spectral_norm: bool = option(False, help="the discriminator's layers are normalised")

    epochs: int = option(10, low=1, help="passes over the group")
    repeats: int = option(30, low=1, help="how often a clip comes in an epoch")
    draw_persons: bool = option(False, help="an epoch goes over persons, not clips")
    batch_size: int = option(10, low=1, help="pairs of frames")
    learning_rate: float = option(2e-4, above=0.0, help="of Adam, for all networks")
    milestones: tuple[int, ...] = option((), low=1, help="epochs after which the rate falls to a tenth")
    augment: bool = option(True, help="swap, mirror and tint the pairs")
    keep_clips: int = option(0, low=0, help="clips held in memory")
    watch_pairs: int = option(16, low=1, help="pairs of unused clips watched in training")

    relative: bool = option(True, help="carry over how keypoints move, not where")
    adapt_scale: bool = option(True, help="relative: measured by the size of the face")
    start: str = option("best", choices=("first", "best"), help="driving frame that is taken as the rest")
    test_clips: int | None = option(None, low=1, help="clips to reconstruct; null: all")
    test_frames: int | None = option(None, low=2, help="frames of each, evenly spaced; null: all")

    def needs(self) -> dict[str, Needs]:
        """See `BaseConfig.needs`; of VoxCeleb as many videos as the user's folder has, or all where there is no folder yet."""
        if self.source not in ("ravdess", "voxceleb") or self.network not in WORKS:
            return {}
        if self.source == "ravdess":
            clips, test, frames = 60 * (len(self.actors) - self.test_actors), 60 * self.test_actors, 115
            begin = estimates.fetching(
                len(self.actors) * ACTOR, disk=1.5 * len(self.actors) * ACTOR
            )  # half its clips are unpacked
            cutting = (clips + test) * frames / 100 / 60  # 100 frames of 1280 x 720 a second; assumed
        else:
            folder = Path(self.local_folder).expanduser()
            share = min(1.0, len(list(folder.iterdir())) / 3444) if folder.is_dir() else 1.0
            clips, test, frames = 19_550 * share, 525 * share, 206
            begin, cutting = estimates.fetching(1.3e6), share * (39 * 60 + 9)  # the original's own time for all of them
        units = clips / (self.n_groups or max(1.0, clips / (self.group_size or clips)))
        if self.n_groups == 1 and self.source == "ravdess":  # one of the actors is watched
            people = len(self.actors) - self.test_actors
            units *= (people - 1) / people if people > 1 else 1
        pairs, pixels = units * self.repeats, self.size**2
        trainings = [
            estimates.training(
                network_of(self, variant),
                self.epochs * pairs,
                batch=self.batch_size,
                precision=self.precision,
                rate=RATES["pairs"] / pixels,
                saves=estimates.count_saves(self, epochs=self.epochs, steps=pairs // self.batch_size),
                watched=self.epochs * self.watch_pairs,
                item=24 * pixels,
            )
            for variant in self.variants
        ]
        drawn = min(self.test_clips or test, test) * min(self.test_frames or frames, frames) + self.pairs * frames / 2
        play = Network(flops=DRAWING[self.network] * pixels / SIZE[self.network] ** 2, parameters=0, made=0)
        scored = estimates.using(
            play, 2 * len(self.variants) * drawn, precision=self.precision, rate=RATES["frames"] / pixels
        )
        return {
            "build_dataset": begin,
            "preprocess": Needs(disk=(clips + test) * frames * FRAME * pixels, minutes=cutting),
            "train": estimates.together(*trainings, estimates.fetching(VGG19)),
            "evaluate": Needs(memory=estimates.LIBRARIES, gpu_memory=trainings[0].gpu_memory, minutes=scored),
        }

    def __post_init__(self) -> None:
        problems_between(
            (
                self.source in ("voxceleb", "local") and not self.local_folder,
                f"local_folder: missing, needed with source: {self.source}; allowed: a folder of "
                + ("your own copies of the videos" if self.source == "voxceleb" else "train/ and test/, or of clips"),
            ),
            (
                len(set(self.actors)) < len(self.actors),
                f"actors: received {list(self.actors)}; allowed: every actor once",
            ),
            (
                self.test_actors >= len(self.actors),
                f"test_actors: received {self.test_actors} with {len(self.actors)} actors; allowed: fewer than actors",
            ),
            (
                (self.group_size is None) == (self.n_groups is None),
                f"group_size: received {self.group_size} with n_groups {self.n_groups}; allowed: exactly one of the two",
            ),
            (
                self.n_groups is not None and self.group >= self.n_groups,
                f"group: received {self.group}; allowed: 0 to n_groups - 1",
            ),
            (not self.variants, "variants: received none; allowed: one or more of " + ", ".join(VARIANTS)),
            (
                len(set(self.variants)) < len(self.variants),
                f"variants: received {list(self.variants)}; allowed: each once",
            ),
            (
                self.checkpoint is not None and (self.variants != ("fomm",) or self.network != "vox256"),
                f"checkpoint: received with variants {list(self.variants)}, network {self.network}; "
                "allowed: variants [fomm], network vox256 (the published weights are of that one)",
            ),
            (
                self.warped_weight > 0 and self.generator != "skip",
                f"warped_weight: received {self.warped_weight} with generator {self.generator}; allowed: 0, or generator skip",
            ),
            (
                any(a >= b for a, b in zip(self.milestones, self.milestones[1:], strict=False)),
                f"milestones: received {list(self.milestones)}; allowed: growing numbers of epochs",
            ),
        )


def network_of(config: FaceAnimationConfig, variant: str) -> Network:
    """What a variant costs a pair, with its loss: of another size about so much by its area."""
    area = (config.size / SIZE[config.network]) ** 2
    judge = JUDGE[config.network] if config.generator_gan else (0, 0, 0)
    flops, parameters, made = map(sum, zip(WORKS[config.network][variant], judge, strict=True))
    return Network(flops=flops * 1e9 * area, parameters=parameters * 1e6, made=made * 1e6 * area)
