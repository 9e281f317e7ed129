"""Score segmentations."""
