"""``autoseg export`` and ``import``: models for and from other programs."""
