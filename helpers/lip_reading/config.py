"""The configuration of the lip-reading project: every setting with its default and limits, OpenAV's twelve first; its greeting."""

import os
from dataclasses import dataclass, replace

from helpers import config, estimates, runtime
from helpers.config import BaseConfig, Needs, option, problems_between
from helpers.estimates import Network

SLOTS = ("command", "colour", "preposition", "letter", "digit", "adverb")  # the keys of `grid.WORDS`
RULES = ("auto", "speaker", "random", "given")
LAYOUTS = ("auto", "split/speaker/class", "class/split", "split/class", "speaker/class", "class")

CLIP = 0.5e6  # bytes; about 0.5 GB a talker of 1 000, data_manifests/grid.yaml: exact sizes are not known
WORD = 14  # frames around a word: 6 to 10 and three on either side; their mean is not known
CUTTING = 0.1  # seconds of a core: 75 frames decoded, a face found in 14 of them at 3 ms each
RATE = 130 * 29 * 112**2  # pixels a second on two cores: 130 clips of 29 x 112 x 112, tests/benchmarks/input_rates.py
NETWORKS = {  # numbers of a clip of so many pixels; counted in the networks by tests/test_settings.py
    "openav": (29 * 112**2, Network(flops=27.2e9, parameters=15.4e6, made=469e6)),
    "conv3d_bigru": (16 * 88**2, Network(flops=11.6e9, parameters=58.4e6, made=154e6)),
}


@dataclass(frozen=True)
class LipSize:
    """Size of the lip picture that a network sees."""

    width: int = option(low=1, high=512, help="pixels across")
    height: int = option(low=1, high=512, help="pixels down")


@dataclass(frozen=True, kw_only=True)
class LipReadingConfig(BaseConfig):
    """Every setting of the five steps; `notebooks/lip_reading/*.yaml` give the values.

    The first twelve are those of OpenAV's visual training and have no defaults, so that its file loads unchanged and a file
    for ours loads there. Differences on purpose: a batch may be of any size from 1, `lr` may be whole, nothing may be 0 that
    makes no sense so, `epoch_stop: 0` is off, and `hide_*` do what their names say.
    """

    hide_metadata: bool = option(help="do not print what this program is")
    hide_libs_vers: bool = option(help="do not print the versions of the libraries")
    path_to_dataset: str = option(low=1, help="source local: folder of the clips")
    len_video: int = option(low=1, high=240, help="frames of a clip as the network sees it")
    size_lips: LipSize = option(help="size of the lip picture")
    padding_lips: bool = option(help="true: keep the aspect ratio, pad; false: stretch")
    seed: int = option(low=0, high=2**32 - 1, help="seed of every random choice")
    batch_size: int = option(low=1, help="clips per training step")
    channels_lips: int = option(choices=(1, 3), help="1: grey, 3: colour")
    lr: float = option(above=0.0, help="learning rate")
    epoch: int = option(low=1, high=10_000, help="most passes over the training clips")
    epoch_stop: int = option(low=0, high=50, help="stop after so many without a better one; 0: off")

    source: str = option("local", choices=("mini", "grid", "local"), help="where the clips come from")
    layout: str = option("auto", choices=LAYOUTS, help="source local: what the folders mean")
    grid_speakers: tuple[int, ...] = option((1, 2, 3, 4, 7), low=1, high=34, help="source grid: which talkers")
    grid_slot: str = option("colour", choices=SLOTS, help="source grid: which word of a sentence")
    grid_clips: int | None = option(None, low=1, help="source grid: sentences per talker; null: all")
    grid_margin: int = option(3, low=0, help="source grid: frames kept before and after a word")

    lips: str = option("detect", choices=("detect", "cropped", "fixed"), help="how the lips are found")
    window: tuple[int, ...] | None = option(None, low=0, help="lips fixed: x1, y1, x2, y2 in pixels")
    min_found: float = option(0.6, low=0.0, high=1.0, help="lips detect: least share of frames with a face")
    swap_channels: bool = option(False, help="the files have red and blue the wrong way round")
    resample: str = option("resample", choices=("resample", "pad", "center"), help="how a clip gets its length")

    split_by: str = option("auto", choices=RULES, help="what decides a side; auto: folders, else speakers")
    validation_share: float = option(0.15, above=0.0, high=0.8, help="share of speakers or clips to watch")
    test_share: float = option(0.2, above=0.0, high=0.8, help="share of speakers or clips to test")
    folds: int | None = option(None, low=2, help="cross-validation in so many parts; null: none")

    model: str = option("openav", choices=("openav", "conv3d_bigru", "tiny"), help="which network")
    shift: float = option(0.08, low=0.0, high=0.5, help="augmentation: most of the size, either way")
    scale: float = option(0.1, low=0.0, high=0.5, help="augmentation: most change of size")
    rotate: float = option(7.0, low=0.0, high=90.0, help="augmentation: most degrees, either way")
    flip: float = option(0.5, low=0.0, high=1.0, help="augmentation: how often left and right change")
    brightness: float = option(0.2, low=0.0, high=0.9, help="augmentation: most change of brightness")
    contrast: float = option(0.2, low=0.0, high=0.9, help="augmentation: most change of contrast")
    tempo: float = option(0.0, low=0.0, high=0.9, help="augmentation: most change of tempo")
    time_shift: int = option(2, low=0, help="augmentation: most frames, earlier or later")
    time_mask: float = option(0.1, low=0.0, high=0.9, help="augmentation: most of a clip that is blanked")
    frame_drop: float = option(0.05, low=0.0, high=0.9, help="augmentation: how often a frame stands still")
    mixup: float = option(0.0, low=0.0, high=10.0, help="alpha of mixup; 0: off")
    label_smoothing: float = option(0.0, low=0.0, high=0.9, help="share of a label given to all classes")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the lip picture, in the order of arrays."""
        return self.size_lips.height, self.size_lips.width

    def needs(self) -> dict[str, Needs]:
        """See `BaseConfig.needs`; all epochs are counted, also those that an early stop leaves out."""
        if self.source != "grid" or self.model not in NETWORKS:
            return {}
        count = len(self.grid_speakers) * (self.grid_clips or 1000)
        pixels = self.len_video * self.size[0] * self.size[1]
        parts = self.folds or 1
        train = count * (1 - self.test_share - self.validation_share)
        options = {"precision": self.precision, "rate": RATE / pixels}
        training = estimates.training(
            network_of(self),
            self.epoch * train,
            batch=self.batch_size,
            saves=estimates.count_saves(self, epochs=self.epoch, steps=train // self.batch_size),
            watched=self.epoch * count * self.validation_share,
            item=4 * pixels,
            **options,
        )
        # Single sentences are asked for one by one, Zenodo is said to answer 60 a minute; archives lie beside what they hold.
        seconds, copies = (0, 2) if self.grid_clips is None else (count, 1)
        lips = count * WORD * self.size[0] * self.size[1] * self.channels_lips
        score = 2 * estimates.using(network_of(self), count * self.test_share, **options)
        return {
            "build_dataset": estimates.fetching(count * CLIP, disk=copies * count * CLIP, seconds=seconds),
            "preprocess": Needs(disk=lips, minutes=count * CUTTING / 2 / 60),
            "split": Needs(
                disk=count * pixels * self.channels_lips, minutes=count / 500 / 60
            ),  # read and written; assumed
            "train": estimates.together(*[training] * parts),
            "evaluate": Needs(memory=estimates.LIBRARIES, gpu_memory=training.gpu_memory, minutes=parts * score),
        }

    def __post_init__(self) -> None:
        window = self.window
        good = window is None or (len(window) == 4 and window[0] < window[2] and window[1] < window[3])
        whole = self.validation_share + self.test_share
        problems_between(
            (not good, f"window: received {list(window or ())}; allowed: four numbers x1, y1, x2, y2 with x1 < x2 and y1 < y2"),
            (self.lips == "fixed" and window is None and self.source != "grid",
             "window: missing, needed with lips: fixed; allowed: four numbers x1, y1, x2, y2 (LRW: [79, 115, 175, 211])"),
            (self.lips != "detect" and self.source == "mini",
             f"lips: received {self.lips!r} with source: mini; allowed: detect (the drawn faces move)"),
            (self.lips == "cropped" and self.source == "grid",
             "lips: received 'cropped' with source: grid; allowed: detect, fixed (its clips show whole faces)"),
            (self.source == "grid" and (not self.grid_speakers or 21 in self.grid_speakers),
             f"grid_speakers: received {list(self.grid_speakers)}; allowed: a list of 1 to 34 without 21 (it has no video)"),
            (len(set(self.grid_speakers)) < len(self.grid_speakers),
             f"grid_speakers: received {list(self.grid_speakers)}; allowed: every talker once"),
            (self.split_by == "given" and self.source != "local",
             f"split_by: received 'given' with source: {self.source}; allowed: speaker, random (its folders give no split)"),
            (self.split_by == "given" and self.folds is not None,
             f"folds: received {self.folds} with split_by: given; allowed: null (the folders fix what is tested)"),
            (whole >= 1,
             f"test_share: received {self.test_share} with validation_share {self.validation_share}; allowed: below 1 together"),
        )  # fmt: skip


def network_of(settings: LipReadingConfig) -> Network:
    """What a network costs a clip: of another size about so much by its pixels."""
    pixels, one = NETWORKS[settings.model]
    share = settings.len_video * settings.size[0] * settings.size[1] / pixels
    return replace(one, flops=one.flops * share, made=one.made * share)


def greeting(path: str | os.PathLike) -> str:
    """What OpenAV's command prints before it works, for a config file: what this program is (a name, a line about it, its licence),
    unless `hide_metadata` hides it, then one line a library, unless `hide_libs_vers` does.

    ValueError: one error with all problems of the file.
    """
    settings, parts = config.load(path, LipReadingConfig), []
    if not settings.hide_metadata:
        told = runtime.project()
        parts.append(f"{told['name']} {told['version']}: {told['description']}\nlicence: {told['license']}")
    if not settings.hide_libs_vers:
        parts.append("\n".join(f"{name:<24} {version}" for name, version in runtime.versions().items()))
    return "\n\n".join(parts)
