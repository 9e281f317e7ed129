"""The values of a segmentation task: no files, no torch."""
