"""The published numbers agree with each other, but for the known slips, and the counts with the formulas of the layers."""

import math

import numpy as np
import pandas as pd
import pytest

from helpers.circulant_video import published

TABLES = [
    published.layers_table,
    published.embeddings_table,
    published.factors_table,
    published.diagonal_table,
    published.pooling_table,
    published.size_table,
    published.curves,
    published.best_of_curves,
    published.parameter_counts,
    published.layer_counts,
]


def cut(value, digits=1):
    return math.floor(value * 10**digits + 1e-9) / 10**digits


@pytest.mark.parametrize("function", TABLES)
def test_each_table_names_its_source_and_is_a_fresh_one(function):
    table = function()
    assert isinstance(table, pd.DataFrame) and len(table) and table.columns.is_unique
    assert "1810.01140" in table.attrs["source"] or "computed" in table.attrs["source"]
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


def test_factors_table_adds_up_but_for_one_slip():
    table = published.factors_table().set_index("factors")
    width = 8192 + 4096
    assert table.loc[0, "parameters"] == width * 512
    assert [table.loc[k, "parameters"] for k in (1, 3, 6)] == [2 * width * k for k in (1, 3, 6)]
    wrong = table[table["printed"] != table["parameters"]]
    assert wrong[["printed", "parameters"]].values.tolist() == [[12_288, 24_576]]
    percent = 100 * (1 - table["printed"] / table.loc[0, "printed"])
    assert percent[1:].map(cut).tolist() == table["compression"][1:].tolist()
    assert round(100 * (1 - 24_576 / table.loc[0, "parameters"]), 1) == 99.6


def test_curves_rise_to_their_best():
    curves, best = published.curves(), published.best_of_curves().set_index("series")
    assert set(curves["series"]) == set(best.index) and len(best) == 11 and len(curves) == 7 * 10 + 8 + 7 + 8 + 7
    for series, curve in curves.groupby("series"):
        assert curve["epoch"].tolist() == list(range(1, len(curve) + 1))
        assert -1e-9 <= best.loc[series, "gap"] - curve["gap"].max() <= 0.002 + 1e-9
        assert 1 <= best.loc[series, "epoch"] < len(curve) + 1
        falls = -curve["gap"].diff().min()
        assert falls > 0.005 if series == "dbof fixed diagonal" else falls < 0.0015  # only the fixed one is jagged


def test_curves_agree_with_the_tables():
    best = published.best_of_curves().set_index("series")["gap"]
    for row in published.embeddings_table().itertuples():
        assert best[f"{row.embedding} {row.fc}"] == row.gap
    for row in published.layers_table().itertuples():
        assert best[f"video {row.model}"] == row.gap
    diagonal = published.diagonal_table().set_index("diagonal")
    last = published.curves().groupby("series")["gap"].last()
    for kind, series in {"learned": "dbof compact", "fixed": "dbof fixed diagonal"}.items():
        assert diagonal.loc[kind].tolist() == [best[series], last[series]]
    pooling = published.pooling_table().set_index("pooling")["gap"]
    factors = published.factors_table().set_index("factors")["gap"]
    assert pooling["robust max"] == factors[0] == best["dbof dense"] and factors[1] == best["dbof compact"]


def test_size_table_agrees_with_the_embeddings():
    size = published.size_table().set_index("model")
    table = published.embeddings_table().query("fc == 'compact'").set_index("embedding")
    for model, embedding in {"NetVLAD 64": "netvlad", "NetFV 64": "netfv", "DBoF 8192": "dbof"}.items():
        expected = [table.loc[embedding, "parameters"] // 1_000_000, table.loc[embedding, "gap"]]
        assert size.loc[model].tolist() == expected


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


@pytest.mark.parametrize("row", list(published.parameter_counts().itertuples(index=False)), ids=str)
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
    totals = set(published.parameter_counts()["all"])
    assert totals >= set(published.layers_table()["parameters"]) | set(published.embeddings_table()["parameters"])


def test_layer_counts_by_formula():
    for row in published.layer_counts().itertuples():
        assert row.dense == row.inputs * row.outputs
        assert row.compact == circulant(row.inputs, row.outputs, diagonal="MoE" not in row.layer)
