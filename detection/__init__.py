"""Frames become detections, tracks, ground positions and events."""
