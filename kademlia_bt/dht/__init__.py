"""The DHT itself, without I/O: ids, table, messages, lookups, one face a socket and the core that holds them."""
