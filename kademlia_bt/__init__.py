"""A mainline DHT node: Kademlia and KRPC over UDP (BEP 5)."""
