"""Stages put together: the only place where one stage follows another."""
