"""The wire layer: everything between a torrent and its peers, without the DHT."""
