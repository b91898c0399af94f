"""What the paper printed, to stand beside our own numbers: tables and learning curves.

Paper: "Training compact deep learning models for video classification using circulant matrices", arXiv 1810.01140. Its
tables and the points of its curves are also in the LaTeX of its first author's thesis (github.com/araujoalexandre/thesis,
appendix 2). Every GAP is one run, without error bars, on the held-out part of YouTube-8M's validation set (178 720 videos).
`table.attrs["source"]` says where a table comes from. Printed percentages are cut, not rounded: 18.46 is printed 18.4.

Known slips, kept as printed: DBoF's compression 9.56 (9.52 by the counts; 9.56 is what the rounded megabytes give), NetVLAD's
330 MB (329.3).
"""

import pandas as pd

PAPER = "arXiv 1810.01140; numbers from the LaTeX of Araujo's thesis, appendix 2"
CURVES = (
    "arXiv 1810.01140, learning curves; interpolated at whole epochs from the points in the LaTeX of Araujo's thesis"
)


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


def size_table() -> pd.DataFrame:
    """GAP against size, all with a compact FC: `millions` of parameters (cut, not rounded)."""
    rows = [
        ("NetVLAD 32, FC 256, MoE 2", 25, 0.831),
        ("NetVLAD 64", 50, 0.851),
        ("NetFV 64", 51, 0.848),
        ("DBoF 8192", 59, 0.861),
        ("NetVLAD 256, FC 1024", 87, 0.858),
        ("NetVLAD 128 + NetFV 64", 158, 0.861),
        ("NetVLAD 256 + NetFV 128", 159, 0.863),
        ("DBoF 8192 + NetVLAD 128", 166, 0.861),
        ("DBoF 16384 + NetVLAD 256", 176, 0.861),
    ]
    return _table("model millions gap", rows)


# Thousandths of GAP at epochs 1, 2, ...
_CURVES = {
    "dbof dense": "826 845 853 856 858 860 861 861 860 861",
    "dbof compact": "839 851 856 858 859 860 860 860 860 860",
    "dbof fixed diagonal": "810 820 823 817 826 829 829 829 830 829",
    "netvlad dense": "833 847 854 857 859 861 862 862 863 863",
    "netvlad compact": "811 828 836 840 844 847 848 849 850 850",
    "netfv dense": "824 843 849 853 856 857 858 858 858 859",
    "netfv compact": "809 825 834 838 842 844 845 846 847 847",
    "video dense": "803 822 836 839 843 845 845 846",
    "video compact FC": "821 834 839 842 843 845 845",
    "video compact DBoF": "778 803 817 822 832 834 835 837",
    "video compact MoE": "747 773 786 795 800 803 805",
}


def curves() -> pd.DataFrame:
    """Validation GAP of each series at whole epochs: columns series, epoch, gap.

    "dbof compact" is the learned diagonal of experiment 1 and the compact FC of experiment 2: one and the same run.
    """
    rows = [
        (series, epoch, int(gap) / 1000)
        for series, values in _CURVES.items()
        for epoch, gap in enumerate(values.split(), start=1)
    ]
    return _table("series epoch gap", rows, CURVES)
