"""Segment new images."""
