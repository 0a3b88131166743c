"""Trackers: servers that know who shares a torrent (BEP 3, 7, 12, 15, 23, 24, 31, 41, 48)."""
