"""Open Images under its short name; the code is in `sources.open_images`."""

from helpers.boat_detection.sources.open_images import filter_boxes, write_transfer_list

__all__ = ["filter_boxes", "write_transfer_list"]
