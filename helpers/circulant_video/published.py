"""What the paper printed, to stand beside our own numbers: tables, learning curves, parameter counts.

Paper: "Training compact deep learning models for video classification using circulant matrices", arXiv 1810.01140. Its
tables and the points of its curves are also in the LaTeX of its first author's thesis (github.com/araujoalexandre/thesis,
appendix 2). Every GAP is one run, without error bars, on the held-out part of YouTube-8M's validation set (178 720 videos).
`table.attrs["source"]` says where a table comes from. Printed percentages are cut, not rounded: 18.46 is printed 18.4.

Known slips, kept as printed: DBoF's compression 9.56 (9.52 by the counts; 9.56 is what the rounded megabytes give), 12 288
parameters of one factor (24 576: the diagonal was left out), NetVLAD's 330 MB (329.3).
"""

import pandas as pd

PAPER = "arXiv 1810.01140; numbers from the LaTeX of Araujo's thesis, appendix 2"
CURVES = (
    "arXiv 1810.01140, learning curves; interpolated at whole epochs from the points in the LaTeX of Araujo's thesis"
)
COMPUTED = (
    "computed from the layers of the original code and by building the networks; the paper prints the totals it uses"
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


def factors_table() -> pd.DataFrame:
    """DBoF's FC with 1, 3, 6 factors (0: dense). `printed` counts of the FC, `parameters` as they are, videos per second."""
    rows = [
        (0, 6_291_456, 6_291_456, None, 1007, 0.861),
        (1, 12_288, 24_576, 99.8, 1052, 0.861),
        (3, 73_728, 73_728, 98.8, 858, 0.861),
        (6, 147_456, 147_456, 97.6, 568, 0.859),
    ]
    return _table("factors printed parameters compression videos_per_second gap", rows)


def diagonal_table() -> pd.DataFrame:
    """Learned against fixed signs on the diagonal of DBoF's compact FC: best GAP and GAP at the end."""
    return _table("diagonal best last", [("learned", 0.861, 0.860), ("fixed", 0.831, 0.829)])


def pooling_table() -> pd.DataFrame:
    """How DBoF pools its frames; "robust max" is the mean of 10 maxima over 15 frames each."""
    return _table("pooling gap", [("max", 0.852), ("average", 0.855), ("robust max", 0.861)])


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


# Thousandths of GAP at epochs 1, 2, ..., then the best value and the epoch where it stood.
_CURVES = {
    "dbof dense": ("826 845 853 856 858 860 861 861 860 861", 0.861, 5.8),
    "dbof compact": ("839 851 856 858 859 860 860 860 860 860", 0.861, 6.5),
    "dbof fixed diagonal": ("810 820 823 817 826 829 829 829 830 829", 0.831, 5.6),
    "netvlad dense": ("833 847 854 857 859 861 862 862 863 863", 0.864, 9.2),
    "netvlad compact": ("811 828 836 840 844 847 848 849 850 850", 0.851, 10.3),
    "netfv dense": ("824 843 849 853 856 857 858 858 858 859", 0.860, 10.4),
    "netfv compact": ("809 825 834 838 842 844 845 846 847 847", 0.848, 9.2),
    "video dense": ("803 822 836 839 843 845 845 846", 0.846, 6.1),
    "video compact FC": ("821 834 839 842 843 845 845", 0.845, 5.7),
    "video compact DBoF": ("778 803 817 822 832 834 835 837", 0.838, 7.9),
    "video compact MoE": ("747 773 786 795 800 803 805", 0.805, 7.0),
}


def curves() -> pd.DataFrame:
    """Validation GAP of each series at whole epochs: columns series, epoch, gap.

    "dbof compact" is the learned diagonal of experiment 1 and the compact FC of experiment 2: one and the same run.
    """
    rows = [
        (series, epoch, int(gap) / 1000)
        for series, (values, _, _) in _CURVES.items()
        for epoch, gap in enumerate(values.split(), start=1)
    ]
    return _table("series epoch gap", rows, CURVES)


def best_of_curves() -> pd.DataFrame:
    """Best GAP of each series and the epoch (not whole) where it stood: columns series, gap, epoch."""
    return _table("series gap epoch", [(series, best, epoch) for series, (_, best, epoch) in _CURVES.items()], CURVES)


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
    table = _table("embedding audio compact factors diagonal all trainable change", rows, COMPUTED)
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
    return _table("layer inputs outputs dense compact", rows, COMPUTED)
