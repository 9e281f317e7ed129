"""autoseg: from a folder of annotated medical images to a trained, evaluated segmentation model."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoseg.predict.api import LoadedModel, Result, load_model

__version__ = "0.1.0"

__all__ = ["LoadedModel", "Result", "__version__", "load_model"]

_LAZY = ("LoadedModel", "Result", "load_model")


def __getattr__(name: str) -> object:
    """Import torch only when somebody wants to predict."""
    if name not in _LAZY:
        raise AttributeError(f"module 'autoseg' has no attribute '{name}'")
    from autoseg.predict import api

    return getattr(api, name)
