"""uTP: a reliable stream over UDP that yields to other traffic (BEP 29)."""
