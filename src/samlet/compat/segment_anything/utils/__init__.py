"""The original's `segment_anything.utils`."""
