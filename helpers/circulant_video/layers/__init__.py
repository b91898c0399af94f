"""The layers of the project under one name: circulant ones, pooling of frames, and the classifier on top."""

from helpers.circulant_video.circulant import CirculantDense, RandomSigns, circulant_matrix, diagonal_circulant
from helpers.circulant_video.layers.experts import ContextGating, MixtureOfExperts
from helpers.circulant_video.layers.pooling import MOMENTUM, DBoF, NetFV, NetVLAD, l2_normalize

__all__ = [
    "MOMENTUM",
    "CirculantDense",
    "ContextGating",
    "DBoF",
    "MixtureOfExperts",
    "NetFV",
    "NetVLAD",
    "RandomSigns",
    "circulant_matrix",
    "diagonal_circulant",
    "l2_normalize",
]
