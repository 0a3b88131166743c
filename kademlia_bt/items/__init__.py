"""What the DHT keeps beside peers: items (BEP 44, 46), swarm sizes (BEP 33) and samples (BEP 51)."""
