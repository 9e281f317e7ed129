"""Prepare every case once."""
