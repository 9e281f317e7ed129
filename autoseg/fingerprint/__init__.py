"""Measure a data set."""
