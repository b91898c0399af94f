"""The published numbers agree with each other, but for the known slips, and the counts with the formulas of the layers."""

import math

import numpy as np
import pandas as pd
import pytest

from helpers.circulant_video import published

TABLES = [
    published.layers_table,
    published.embeddings_table,
    published.size_table,
    published.curves,
]

BEST = {  # GAP of each series of the paper's curves, and the epoch (not whole) where it stood
    "dbof dense": (0.861, 5.8),
    "dbof compact": (0.861, 6.5),
    "dbof fixed diagonal": (0.831, 5.6),
    "netvlad dense": (0.864, 9.2),
    "netvlad compact": (0.851, 10.3),
    "netfv dense": (0.86, 10.4),
    "netfv compact": (0.848, 9.2),
    "video dense": (0.846, 6.1),
    "video compact FC": (0.845, 5.7),
    "video compact DBoF": (0.838, 7.9),
    "video compact MoE": (0.805, 7.0),
}


def cut(value, digits=1):
    return math.floor(value * 10**digits + 1e-9) / 10**digits


@pytest.mark.parametrize("function", TABLES)
def test_each_table_names_its_source_and_is_a_fresh_one(function):
    table = function()
    assert isinstance(table, pd.DataFrame) and len(table) and table.columns.is_unique
    assert "1810.01140" in table.attrs["source"]
    table[table.columns[0]] = "spoiled"
    assert not (function().iloc[:, 0] == "spoiled").any()
    if "gap" in table:
        assert table["gap"].between(0.74, 0.87).all()


def test_layers_table_adds_up():
    table = published.layers_table().set_index("model")
    dense, compact = table.loc["dense"], table.drop("dense")
    percent = 100 * (1 - compact["parameters"] / dense["parameters"])
    assert percent.map(cut).tolist() == compact["compression"].tolist()  # cut, not rounded
    np.testing.assert_allclose(compact["gap"] - dense["gap"], compact["difference"], atol=1e-9)


def test_embeddings_table_adds_up_but_for_two_slips():
    table = published.embeddings_table()
    size = table["parameters"] * 4 / 2**20
    wrong = table[(size - table["megabytes"]).abs() > 0.5]
    assert wrong[["embedding", "fc", "megabytes"]].values.tolist() == [["netvlad", "dense", 330]]
    assert size[wrong.index[0]] == pytest.approx(329.34, abs=0.005)
    wide = table.pivot(index="embedding", columns="fc")
    percent = 100 * (1 - wide["parameters"]["compact"] / wide["parameters"]["dense"])
    printed = wide["compression"]["compact"]
    assert (
        [cut(percent[name]) for name in ("netvlad", "netfv")] == [printed["netvlad"], printed["netfv"]] == [41.1, 58.1]
    )
    assert printed["dbof"] == 9.56 and round(percent["dbof"], 2) == 9.52
    assert round(100 * (1 - 227 / 251), 2) == 9.56


def test_curves_rise_to_their_best():
    curves = published.curves()
    assert set(curves["series"]) == set(BEST) and len(BEST) == 11 and len(curves) == 7 * 10 + 8 + 7 + 8 + 7
    for series, curve in curves.groupby("series"):
        assert curve["epoch"].tolist() == list(range(1, len(curve) + 1))
        assert -1e-9 <= BEST[series][0] - curve["gap"].max() <= 0.002 + 1e-9
        assert 1 <= BEST[series][1] < len(curve) + 1
        falls = -curve["gap"].diff().min()
        assert falls > 0.005 if series == "dbof fixed diagonal" else falls < 0.0015  # only the fixed one is jagged


def test_curves_agree_with_the_tables():
    for row in published.embeddings_table().itertuples():
        assert BEST[f"{row.embedding} {row.fc}"][0] == row.gap
    for row in published.layers_table().itertuples():
        assert BEST[f"video {row.model}"][0] == row.gap


def test_size_table_agrees_with_the_embeddings():
    size = published.size_table().set_index("model")
    table = published.embeddings_table().query("fc == 'compact'").set_index("embedding")
    for model, embedding in {"NetVLAD 64": "netvlad", "NetFV 64": "netfv", "DBoF 8192": "dbof"}.items():
        expected = [table.loc[embedding, "parameters"] // 1_000_000, table.loc[embedding, "gap"]]
        assert size.loc[model].tolist() == expected


def parameter_counts() -> pd.DataFrame:
    """All variables and trainable ones of each full-size network, and `change` in percent of its dense twin.

    `compact` names what is circulant, joined by "+"; compact "moe" has no context gating. Not counted: `trainable` of the
    NetVLAD and NetFV networks (missing), and random seeds. 3862 classes but for the last row.
    """
    rows = [
        ("dbof", False, "", 1, "learned", 45_359_764, 45_334_632, None),
        ("dbof", False, "embedding", 1, "learned", 36_987_540, 36_962_408, -18.46),
        ("dbof", False, "fc", 1, "learned", 41_181_844, 41_156_712, -9.21),
        ("dbof", False, "fc", 3, "learned", 41_214_612, 41_189_480, -9.14),
        ("dbof", False, "fc", 6, "learned", 41_263_764, 41_238_632, -9.03),
        ("dbof", False, "fc", 1, "fixed", 41_181_844, 41_148_520, -9.21),
        ("dbof", False, "moe", 1, "learned", 12_668_504, 12_651_096, -72.07),
        ("dbof", False, "no gating", 1, "learned", 30_429_272, 30_411_864, -32.92),
        ("dbof", False, "embedding+fc+moe", 1, "learned", 118_360, 100_952, -99.74),
        ("dbof", True, "", 1, "learned", 65_795_732, 65_761_384, None),
        ("dbof", True, "embedding", 1, "learned", 56_907_412, 56_873_064, -13.51),
        ("dbof", True, "fc", 1, "learned", 59_528_852, 59_494_504, -9.52),
        ("dbof", True, "moe", 1, "learned", 15_308_888, 15_282_264, -76.73),
        ("dbof", True, "embedding+fc+moe", 1, "learned", 153_688, 127_064, -99.77),
        ("netvlad", True, "", 1, "learned", 86_333_460, None, None),
        ("netvlad", True, "fc", 1, "learned", 50_821_140, None, -41.13),
        ("netfv", True, "", 1, "learned", 122_054_676, None, None),
        ("netfv", True, "fc", 1, "learned", 51_030_036, None, -58.19),
        ("dbof", True, "", 1, "learned", 80_998_640, None, None),
    ]
    table = pd.DataFrame(
        rows, columns=["embedding", "audio", "compact", "factors", "diagonal", "all", "trainable", "change"]
    )
    table["classes"] = [3862] * (len(rows) - 1) + [4716]
    return table.astype({"trainable": "Int64"})


def layer_counts() -> pd.DataFrame:
    """Weights of single layers, dense and circulant with diagonal (the MoE's without), and their input and output widths."""
    rows = [
        ("DBoF projection, video", 1024, 8192, 8_388_608, 16_384),
        ("DBoF projection, audio", 128, 4096, 524_288, 8_192),
        ("DBoF FC, video", 8192, 512, 4_194_304, 16_384),
        ("DBoF FC, audio", 4096, 512, 2_097_152, 8_192),
        ("NetVLAD FC, video", 65_536, 512, 33_554_432, 131_072),
        ("NetVLAD FC, audio", 4096, 512, 2_097_152, 8_192),
        ("NetFV FC, video", 131_072, 512, 67_108_864, 262_144),
        ("NetFV FC, audio", 8192, 512, 4_194_304, 16_384),
        ("MoE gates, video only", 512, 19_310, 9_886_720, 19_456),
        ("MoE experts, video only", 512, 15_448, 7_909_376, 15_872),
    ]
    return pd.DataFrame(rows, columns=["layer", "inputs", "outputs", "dense", "compact"])


def circulant(inputs, outputs, factors=1, diagonal=True):
    return inputs * math.ceil(outputs / inputs) * factors * (2 if diagonal else 1)


def count_by_formula(embedding, audio, compact, factors, diagonal, classes):
    """(all, trainable) from the widths of the layers; a batch norm of s outputs has 4s variables, 2s of them trainable."""
    variables = frozen = 0
    branches = [(1024, 1), (128, 2)] if audio else [(1024, 1)]
    for features, divisor in branches:
        clusters = (8192 if embedding == "dbof" else 64) // divisor
        tensors = {"dbof": 1, "netvlad": 2, "netfv": 3}[embedding]
        width = clusters * {"dbof": 1, "netvlad": features, "netfv": 2 * features}[embedding]
        variables += circulant(features, clusters) if "embedding" in compact else tensors * features * clusters
        variables += circulant(width, 512, factors) if "fc" in compact else width * 512
        variables += 4 * (clusters + 512)
        frozen += 2 * (clusters + 512) + (width if diagonal == "fixed" else 0)
    inputs, experts = 512 * len(branches), 4 * classes
    if "moe" in compact:
        variables += circulant(inputs, 5 * classes, 1, False) + circulant(inputs, experts, 1, False) + experts
        return variables, variables - frozen
    variables += inputs * 9 * classes + experts
    if "no gating" not in compact:
        variables += classes**2 + 4 * classes
        frozen += 2 * classes
    return variables, variables - frozen


@pytest.mark.parametrize("row", list(parameter_counts().itertuples(index=False)), ids=str)
def test_parameter_counts_by_formula(row):
    arguments = (row.embedding, row.audio, row.compact, row.factors, row.diagonal, row.classes)
    variables, trainable = count_by_formula(*arguments)
    assert variables == row.all
    assert pd.isna(row.trainable) or trainable == row.trainable
    if row.compact:
        dense, _ = count_by_formula(row.embedding, row.audio, "", 1, "learned", row.classes)
        assert round(100 * (variables / dense - 1), 2) == row.change
    else:
        assert pd.isna(row.change)


def test_parameter_counts_agree_with_the_tables():
    totals = set(parameter_counts()["all"])
    assert totals >= set(published.layers_table()["parameters"]) | set(published.embeddings_table()["parameters"])


def test_layer_counts_by_formula():
    for row in layer_counts().itertuples():
        assert row.dense == row.inputs * row.outputs
        assert row.compact == circulant(row.inputs, row.outputs, diagonal="MoE" not in row.layer)
