"""Decode, time, sample, write and show video.

Every frame that comes out or goes in is RGB uint8 of shape (H, W, 3). Worker processes import this package, so it must never
pull in TensorFlow or Keras.
"""

from helpers.video.reading import count_frames, header_info, read_frames, read_timing, scan_frames
from helpers.video.timing import USUAL_FPS, Timing
from helpers.video.writing import clip_html, show_clip, tile, write_video

__all__ = ["USUAL_FPS", "Timing", "count_frames", "header_info", "read_frames", "read_timing", "scan_frames"]
__all__ += ["clip_html", "show_clip", "tile", "write_video"]
