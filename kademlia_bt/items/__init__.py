"""Values and stores of what the DHT keeps beside peers: items (BEP 44, 46), swarm sizes (33), samples (51)."""
