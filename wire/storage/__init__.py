"""Pieces on disk: written, read, checked, and remembered between runs."""
