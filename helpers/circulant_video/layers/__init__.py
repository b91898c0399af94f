"""The layers of the project under one name: circulant ones, pooling of frames, and the classifier on top."""

# ruff: noqa: F401
from helpers.circulant_video.circulant import CirculantDense, RandomSigns, circulant_matrix, diagonal_circulant
from helpers.circulant_video.layers.experts import ContextGating, MixtureOfExperts
from helpers.circulant_video.layers.pooling import MOMENTUM, DBoF, NetFV, NetVLAD, l2_normalize
from helpers.circulant_video.layers.sampling import SampleFrames
