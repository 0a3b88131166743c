"""Collecting info-hashes from all nodes that show them (BEP 51)."""
