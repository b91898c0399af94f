"""The figures that more than one project draws. Every function returns its figure and leaves showing it to the notebook.

Clips that move in a notebook, their rate and size, stand in `helpers.video.writing`.
"""

import io
from collections.abc import Mapping, Sequence

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from IPython.display import Image
from matplotlib.figure import Figure

DPI = 80  # a committed notebook carries its pictures
# Colours that remain apart for colour-blind readers: Okabe and Ito, "Color Universal Design", 2008, the yellow left out.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLE = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=PALETTE),
}


def figure(rows: int = 1, columns: int = 1, width: float = 9.0, height: float = 3.0) -> tuple[Figure, np.ndarray]:
    """A figure in the course's style and its (rows, columns) axes; let it end the cell, which shows it. Width and height in inches.

    The style (fonts of 9 pt and more, `PALETTE`) stays set for what is drawn into the figure later. The figure is closed, so
    that a notebook does not show it twice.
    """
    plt.rcParams.update(STYLE)
    made, axes = plt.subplots(rows, columns, figsize=(width, height), dpi=DPI, squeeze=False, layout="constrained")
    plt.close(made)
    return made, axes


def as_jpeg(figure: Figure) -> Image:
    """A figure made of photos as a JPEG, a fifth of its size as PNG; shown when it ends a cell."""
    plt.close(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", dpi=DPI, pil_kwargs={"quality": 75})
    return Image(buffer.getvalue(), format="jpeg")


def as_array(figure: Figure) -> np.ndarray:
    """A figure as a picture: (H, W, 3) uint8 RGB."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(buffer.getvalue(), np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def plot_frames(frames: Sequence[np.ndarray], titles: Sequence[str] | None = None, **options: float) -> Image:
    """Frames in a grid, row by row, as a JPEG; takes what `frames_figure` takes."""
    return as_jpeg(frames_figure(frames, titles, **options))


def frames_figure(
    frames: Sequence[np.ndarray], titles: Sequence[str] | None = None, *, columns: int = 6, width: float = 9.0
) -> Figure:
    """Frames in a grid, row by row: (H, W, 3) uint8 RGB or float in [0, 1]; or (H, W), from dark to bright. Width in inches."""
    rows = -(-len(frames) // columns)
    height, wide = np.asarray(frames[0]).shape[:2]
    title = 0.26 if titles else 0.0
    made, axes = figure(rows, columns, width, rows * (width / columns * height / wide + title))
    made.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    for index, axis in enumerate(axes.flat):
        axis.axis("off")
        if index < len(frames):
            axis.imshow(frames[index], cmap="magma" if np.ndim(frames[index]) == 2 else None, interpolation="nearest")
            if titles:
                axis.set_title(titles[index], pad=2)
    return made


def tint(frames: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Red over frames where their weights are large, the largest of all strongest: (..., H, W, 3) float32 in [0, 1].

    Frames are (..., H, W, 3) or (..., H, W, 1), float in [0, 1]; weights (..., H, W), of at least 0.
    """
    strength = 0.6 * np.asarray(weights, "float32")[..., None] / max(float(np.max(weights)), 1e-9)
    return np.asarray(frames, "float32") * (1 - strength) + np.array([1.0, 0.1, 0.0], "float32") * strength


def plot_curves(
    tables: Mapping[str, pd.DataFrame], columns: Sequence[str], *, x: str = "epoch", titles: Sequence[str] | None = None
) -> Figure:
    """Training logs by name side by side: one small plot per column, one line per table that has the column."""
    made, axes = figure(1, len(columns), min(3.1 * len(columns), 9.0), 2.5)
    for axis, column, title in zip(axes[0], columns, titles or columns, strict=True):
        for name, table in tables.items():
            if column in table:
                axis.plot(table[x], table[column], marker=".", label=name)
        axis.set_title(title)
        axis.set_xlabel(x)
        axis.xaxis.get_major_locator().set_params(integer=True)
    made.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return made


def plot_matrix(
    matrix: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    width: float = 6.0,
) -> Figure:
    """A table (R, C) of counts or shares as a heat map with its numbers written in; zeros stay empty."""
    matrix = np.asarray(matrix)
    height = 1.0 + width * 0.75 * len(rows) / max(len(columns), len(rows))
    made, ((axis,),) = figure(1, 1, width, height)
    axis.imshow(matrix, cmap="Blues", aspect="auto")
    for (row, column), value in np.ndenumerate(matrix):
        if value:
            color = "white" if value > 0.6 * matrix.max() else "black"
            axis.text(column, row, f"{value:.3g}", ha="center", va="center", color=color)
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(rows)), rows)
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    return made


def plot_plane(x: np.ndarray, y: np.ndarray, groupings: Mapping[str, Sequence]) -> Figure:
    """The same points (N,) side by side, coloured in a different way each time: title -> (N,) values, above 12 without a legend."""
    made, axes = figure(1, len(groupings), min(4.2 * len(groupings), 9.0), 4.0)
    for axis, (title, values) in zip(axes[0], groupings.items(), strict=True):
        names = sorted(set(values))
        many = plt.get_cmap("nipy_spectral")(np.linspace(0, 1, len(names)))
        colors = PALETTE if len(names) <= len(PALETTE) else many
        for index, name in enumerate(names):
            chosen = np.asarray(values) == name
            axis.scatter(x[chosen], y[chosen], s=9, color=colors[index], label=str(name))
        axis.set_title(title)
        axis.set(xticks=[], yticks=[])
        if len(names) <= 12:
            axis.legend(markerscale=1.5, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2)
    return made


def plot_thumbnails(x: np.ndarray, y: np.ndarray, frames: Sequence[np.ndarray], *, side: float = 0.035) -> Image:
    """Every point (N,) drawn as its frame (H, W, 3), whose side is a share of the figure."""
    made, ((axis,),) = figure(1, 1, 9.0, 7.2)
    half = (side * np.ptp(x), side * np.ptp(y))
    for left, top, frame in zip(x, y, frames, strict=True):
        axis.imshow(frame, extent=(left - half[0], left + half[0], top - half[1], top + half[1]), zorder=2)
    axis.set(xlim=(x.min() - half[0], x.max() + half[0]), ylim=(y.min() - half[1], y.max() + half[1]), aspect="auto")
    axis.axis("off")
    return as_jpeg(made)
