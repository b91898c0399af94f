"""Each setting against its machine: a free Colab with a T4. The constants of `needs` are counted again in the networks themselves."""

import dataclasses

import numpy as np
import pytest

from helpers import config as configs
from helpers.estimates import Network
from helpers.temporal_coherence import config as temporal
from helpers.temporal_coherence import model as temporal_model
from tests import counting

GIGA = 1e9
LIMITS = {"disk": 78 * GIGA, "memory": 12.7 * GIGA, "gpu_memory": 15 * GIGA, "minutes": 12 * 60}
HOUR = 75  # minutes of a t4, "about an hour"
DRIVE = 15 * GIGA  # free of charge, the bin included


def settings(project: str, name: str):
    return configs.load(configs.find(project, name), configs.schema_of(project))


def frames(size: int, count: int = 1):
    return np.zeros((count, size, size, 3), "float32")


def agree(stated: Network, counted: tuple[float, float], parameters: float) -> None:
    """Within five of a hundred."""
    np.testing.assert_allclose(dataclasses.astuple(stated), (counted[0], parameters, counted[1]), rtol=0.05)


@pytest.mark.parametrize(("variant", "wide"), [("seed", 4096), ("paper", 4096), ("paper", 1024)])
def test_temporal_coherence_is_counted(variant, wide):
    trunk = temporal_model.build_trunk(variant, wide, 227)
    stated = temporal.network_of(temporal.TemporalCoherenceConfig(source="ucf101", variant=variant, embedding_dim=wide))
    agree(stated, counting.count(lambda x: trunk(x, training=True), frames(227)), trunk.count_params())
