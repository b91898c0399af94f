"""What the paper printed, to stand beside our own numbers: tables, learning curves, and one figure for both.

Paper: "Training compact deep learning models for video classification using circulant matrices", arXiv 1810.01140. Its
tables and the points of its curves are also in the LaTeX of its first author's thesis (github.com/araujoalexandre/thesis,
appendix 2). Every GAP is one run, without error bars, on the held-out part of YouTube-8M's validation set (178 720 videos).
`table.attrs["source"]` says where a table comes from. Printed percentages are cut, not rounded: 18.46 is printed 18.4.

Known slips, kept as printed: DBoF's compression 9.56 (9.52 by the counts; 9.56 is what the rounded megabytes give), and
NetVLAD's 330 MB (329.3).
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from helpers import plots

PAPER = "arXiv 1810.01140; numbers from the LaTeX of Araujo's thesis, appendix 2"
CURVES = "arXiv 1810.01140, learning curves at whole epochs, from the points in the LaTeX of Araujo's thesis"
MARKERS = {"dense": "s", "compact": "o", "narrow": "v", "low rank": "X"}


def _table(columns: str, rows: list[tuple], source: str = PAPER) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=columns.split())
    table.attrs["source"] = source
    return table


def layers_table() -> pd.DataFrame:
    """Which layer to make compact: DBoF, video only. `compression` in percent of all variables, `difference` of GAP@20."""
    rows = [
        ("dense", 45_359_764, None, 0.846, None),
        ("compact DBoF", 36_987_540, 18.4, 0.838, -0.008),
        ("compact FC", 41_181_844, 9.2, 0.845, -0.001),
        ("compact MoE", 12_668_504, 72.0, 0.805, -0.041),
    ]
    return _table("model parameters compression gap difference", rows)


def embeddings_table() -> pd.DataFrame:
    """Dense against compact FC for three embeddings, audio and video; `megabytes` are 2**20 bytes of 4-byte variables."""
    rows = [
        ("dbof", "dense", 65_795_732, 251, None, 0.861),
        ("dbof", "compact", 59_528_852, 227, 9.56, 0.861),
        ("netvlad", "dense", 86_333_460, 330, None, 0.864),
        ("netvlad", "compact", 50_821_140, 194, 41.1, 0.851),
        ("netfv", "dense", 122_054_676, 466, None, 0.860),
        ("netfv", "compact", 51_030_036, 195, 58.1, 0.848),
    ]
    return _table("embedding fc parameters megabytes compression gap", rows)


def sizes_table() -> pd.DataFrame:
    """Every published dense network and its compact twins, for `draw_sizes`: family, kind, weights (millions), gap."""
    names = {"dbof": "DBoF: FC", "netvlad": "NetVLAD: FC", "netfv": "NetFisher: FC"}
    rows = [(names[row.embedding], row.fc, row.parameters, row.gap) for row in embeddings_table().itertuples()]
    dense, *compact = layers_table().itertuples()
    for twin in compact:  # pictures only
        family = f"DBoF, no sound: {twin.model.split()[1]}"
        rows += [(family, "dense", dense.parameters, dense.gap), (family, "compact", twin.parameters, twin.gap)]
    return _table("family kind weights gap", rows).assign(weights=lambda table: table["weights"] / 1e6)


def draw_sizes(axis: Axes, table: pd.DataFrame) -> None:
    """Size against quality: a colour for each family, a marker for each kind, a line from the dense network to its compact twin.

    `table` has the columns family, kind (of `MARKERS`), weights, gap, and spread where it is known.
    """
    for color, (family, rows) in zip(plots.PALETTE, table.groupby("family", sort=False), strict=False):
        pair = rows[rows["kind"].isin(["dense", "compact"])]
        axis.plot(pair["weights"], pair["gap"], color=color, label=family)
        for row in rows.itertuples():
            spread = getattr(row, "spread", None)
            axis.errorbar(row.weights, row.gap, spread, fmt=MARKERS[row.kind], color=color, markersize=7, capsize=3)
    for kind in table["kind"].unique():
        axis.plot([], [], MARKERS[kind], color="gray", label=kind)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter("{x:g}")
    axis.xaxis.set_minor_locator(LogLocator(subs=(2, 3, 4, 6)))
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)


# Thousandths of GAP at epochs 1, 2, ...
_CURVES = {
    "dbof dense": "826 845 853 856 858 860 861 861 860 861",
    "dbof compact": "839 851 856 858 859 860 860 860 860 860",
    "dbof fixed diagonal": "810 820 823 817 826 829 829 829 830 829",
}


def curves() -> pd.DataFrame:
    """Validation GAP of DBoF at whole epochs: columns series, epoch, gap; "dbof compact" has the learned diagonal."""
    rows = [
        (series, epoch, int(gap) / 1000)
        for series, values in _CURVES.items()
        for epoch, gap in enumerate(values.split(), start=1)
    ]
    return _table("series epoch gap", rows, CURVES)
