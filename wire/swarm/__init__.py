"""One torrent among its peers: whom to dial, what to ask, whom to serve."""
