"""autoseg: from a folder of annotated medical images to a trained, evaluated segmentation model."""

__version__ = "0.1.0"
