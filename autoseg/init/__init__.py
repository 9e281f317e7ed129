"""From a folder in a layout of its own to a description: ``autoseg init``."""
