"""The peer protocol: one connection, without I/O (BEP 3, 6, 9, 10)."""
