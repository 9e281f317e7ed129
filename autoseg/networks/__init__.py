"""Torch modules: no files."""
