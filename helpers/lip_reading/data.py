"""The data of this project under one name; what stands behind each is in the module it comes from."""

from helpers.lip_reading.augment import Augmentation, augment_clip, mix_up
from helpers.lip_reading.batches import Batches, to_unit
from helpers.lip_reading.clips import check_channels, load_clips, prepare_all, prepare_clip, read_clip
from helpers.lip_reading.faces import find_face_points
from helpers.lip_reading.lips import crop_lips, cut_fixed, fit, statistics, to_grey, track_points
from helpers.lip_reading.sources import class_names, find_clips, measure, phrase
from helpers.lip_reading.timing import pick_frames

__all__ = [
    "Augmentation",
    "Batches",
    "augment_clip",
    "check_channels",
    "class_names",
    "crop_lips",
    "cut_fixed",
    "find_clips",
    "find_face_points",
    "fit",
    "load_clips",
    "measure",
    "mix_up",
    "phrase",
    "pick_frames",
    "prepare_all",
    "prepare_clip",
    "read_clip",
    "statistics",
    "to_grey",
    "to_unit",
    "track_points",
]
