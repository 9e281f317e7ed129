"""Derive every decision from the fingerprint."""
