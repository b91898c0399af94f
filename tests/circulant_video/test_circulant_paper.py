"""The published numbers agree with each other, but for the known slips, and the counts with the formulas of the layers."""

import math

import numpy as np
import pandas as pd
import pytest

from helpers import plots
from helpers.circulant_video import experiments, paper

TABLES = [
    paper.layers_table,
    paper.embeddings_table,
    paper.sizes_table,
    paper.curves,
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
    table = paper.layers_table().set_index("model")
    dense, compact = table.loc["dense"], table.drop("dense")
    percent = 100 * (1 - compact["parameters"] / dense["parameters"])
    assert percent.map(cut).tolist() == compact["compression"].tolist()  # cut, not rounded
    np.testing.assert_allclose(compact["gap"] - dense["gap"], compact["difference"], atol=1e-9)


def test_embeddings_table_adds_up_but_for_two_slips():
    table = paper.embeddings_table()
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


def test_curves_rise_to_the_tables():
    curves = paper.curves()
    assert curves.groupby("series")["epoch"].apply(list).map(lambda epochs: epochs == [*range(1, 11)]).all()
    best = curves.groupby("series")["gap"].max()
    printed = {f"{row.embedding} {row.fc}": row.gap for row in paper.embeddings_table().itertuples()}
    for series, gap in (printed | {"dbof fixed diagonal": 0.831}).items():
        if series.startswith("dbof"):
            assert -1e-9 <= gap - best[series] <= 0.002 + 1e-9
            falls = -curves.query("series == @series")["gap"].diff().min()
            assert falls > 0.005 if series == "dbof fixed diagonal" else falls < 0.0015  # only the fixed one is jagged


def test_sizes_are_those_of_the_tables_and_every_dense_network_has_a_line_to_its_twin():
    table = paper.sizes_table()
    assert (
        table.groupby("family", sort=False)["kind"].agg(list).map(lambda kinds: kinds == ["dense", "compact"])
    ).all()
    known = {(round(row.parameters / 1e6, 6), row.gap) for row in paper.embeddings_table().itertuples()}
    known |= {(round(row.parameters / 1e6, 6), row.gap) for row in paper.layers_table().itertuples()}
    assert {(round(row.weights, 6), row.gap) for row in table.itertuples()} == known
    _, ((axis,),) = plots.figure(1, 1)
    paper.draw_sizes(axis, table)
    lines = [line for line in axis.lines if line.get_label() in set(table["family"])]
    assert len(lines) == 6 <= len(plots.PALETTE) and all(len(line.get_xdata()) == 2 for line in lines)
    for line in lines:
        rows = table[table["family"] == line.get_label()]
        np.testing.assert_allclose(line.get_xydata(), rows[["weights", "gap"]])


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
        variables += circulant(features, clusters, factors) if "embedding" in compact else tensors * features * clusters
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


@pytest.mark.parametrize("embedding, clusters", [("dbof", 8192), ("netvlad", 64), ("netfv", 64)])
@pytest.mark.parametrize("compact", [(), ("fc",), ("fc", "moe"), ("embedding", "fc", "moe")])
@pytest.mark.parametrize("sizes", [(1024,), (1024, 128)])
@pytest.mark.parametrize("classes, factors", [(3862, 1), (4716, 3)])
def test_weights_are_counted_by_the_formulas_of_the_layers(embedding, clusters, compact, sizes, classes, factors):
    if embedding != "dbof" and "embedding" in compact:
        return
    options = {"feature_sizes": sizes, "classes": classes, "embedding": embedding, "clusters": clusters, "hidden": 512}
    counted = experiments.count_weights(**options, mixtures=4, compact=compact, factors=factors)
    expected, _ = count_by_formula(embedding, len(sizes) == 2, "+".join(compact), factors, "learned", classes)
    assert counted == expected
