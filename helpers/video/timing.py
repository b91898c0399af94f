"""When each frame of a film is shown, and where its timestamps do not agree with what its header says."""

import dataclasses

import numpy as np

USUAL_FPS = 25.0  # where a file tells nothing
ROUNDING = 0.001  # seconds: WebM and Matroska keep whole milliseconds
FEW = 0.1  # a larger share of steps unlike the usual one is a variable rate; a smaller one can be gaps


@dataclasses.dataclass(frozen=True)
class Timing:
    """The times of a film's frames.

    Attributes:
        times: (T,) float64, seconds from the start of the film at which each frame begins to show, ascending.
        fps: frames per second: the header's where the usual step agrees with it, else what that step (the median) says.
        note: "" or what is odd: gaps, a variable rate, a header that lies, no timestamps.
    """

    times: np.ndarray
    fps: float
    note: str = ""

    @classmethod
    def of(cls, header: dict) -> "Timing":
        """From what `scan_frames` left in `header` after the last frame."""
        claimed = header["fps"] if 1 <= header["fps"] <= 1000 else 0.0
        told = np.array(header["seconds"])
        known = np.flatnonzero(~np.isnan(told))
        if not len(known):
            fps = claimed or USUAL_FPS
            return cls(np.arange(len(told)) / fps, fps, f"no timestamps: taken for {fps:g} frames a second")
        times = np.sort(np.interp(np.arange(len(told)), known, told[known]))
        return cls(times, *_judge(times, claimed, float(np.clip(header["tick"], ROUNDING, 10 * ROUNDING))))

    def shown(self, moments: np.ndarray) -> np.ndarray:
        """Numbers of the frames that are seen at some moments (seconds): int64, the first before the start, the last after it."""
        return np.maximum(np.searchsorted(self.times, np.asarray(moments) + ROUNDING, side="right") - 1, 0)

    def steady(self) -> np.ndarray:
        """Numbers of the frames that make a film of constantly `fps` frames a second: some twice, some not, or 0, 1, 2, ..."""
        count = round((self.times[-1] - self.times[0]) * self.fps) + 1
        return self.shown(self.times[0] + (np.arange(count) + 0.5) / self.fps)


def _judge(times: np.ndarray, claimed: float, tick: float) -> tuple[float, str]:
    """Frames per second, and what is odd."""
    steps = np.diff(times)
    usual = float(np.median(steps)) if len(steps) else 0.0
    if usual <= 0:
        return claimed or USUAL_FPS, "timestamps do not advance" if len(steps) else ""
    variable = (np.abs(steps - usual) > tick + 1e-6).mean() > FEW
    honest = claimed and abs(usual - 1 / claimed) <= tick + 1e-6
    notes = []
    if claimed and not honest and abs(claimed * steps.mean() - 1) > FEW:
        notes.append(f"header says {claimed:g} frames a second, timestamps {1 / usual:.3g}")
    if variable:
        notes.append(f"variable rate: {1000 * steps.min():.0f} to {1000 * steps.max():.0f} ms from frame to frame")
    else:
        notes += _gaps(times, usual, tick)
    return claimed if honest else 1 / usual, "; ".join(notes)


def _gaps(times: np.ndarray, usual: float, tick: float) -> list[str]:
    """Where pictures are missing: (from, to) in seconds, at the start too."""
    edges = np.concatenate([[-usual], times])
    late = np.flatnonzero(np.diff(edges) > 1.5 * usual + tick)
    told = [f"{max(0, edges[at] + usual):.2f} to {edges[at + 1]:.2f} s" for at in late[:3]]
    more = f" and {len(late) - 3} more" if len(late) > 3 else ""
    return [f"no picture from {', '.join(told)}{more}"] if told else []
