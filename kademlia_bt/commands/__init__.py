"""The commands of `kademlia-bt`, and the console that `magnet` shares."""
