"""Pieces on disk: written, read, checked, and remembered between runs."""

from __future__ import annotations

from wire.storage.disk import DiskStore
from wire.storage.store import MemoryStore, Progress, Store, whole_files

__all__ = ["DiskStore", "MemoryStore", "Progress", "Store", "whole_files"]
