"""The configuration of the face-animation project: one frozen dataclass, one YAML file per setting."""

from dataclasses import dataclass

from helpers.config import BaseConfig, option, problems_between

VARIANTS = ("fomm", "fomm_6b", "unet", "unet3plus")
NETWORKS = ("tiny64", "small128", "vox256")


@dataclass(frozen=True, kw_only=True)
class FaceAnimationConfig(BaseConfig):
    """Every setting of the five steps; `notebooks/face_animation/*.yaml` give the values."""

    source: str = option(choices=("mini", "ravdess", "voxceleb", "local"), help="where the clips come from")
    local_folder: str | None = option(None, help="own clips, or for voxceleb own copies of its videos")
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
    scale: float | None = option(None, above=0.0, high=1.0, help="of the frames that see motion; null: network's")
    align_corners: bool = option(True, help="true as the published weights; false as PyTorch now")
    checkpoint: str | None = option(None, help="published .pth.tar to start from (fomm only)")

    perceptual: str = option("vgg19", choices=("vgg19", "stand_in"), help="features that compare two pictures")
    perceptual_weight: float = option(10.0, low=0.0, help="of each level of the features")
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
                any(a >= b for a, b in zip(self.milestones, self.milestones[1:], strict=False)),
                f"milestones: received {list(self.milestones)}; allowed: growing numbers of epochs",
            ),
        )
