"""Whether a data set can be learned from, and what mends it: ``autoseg check``."""
