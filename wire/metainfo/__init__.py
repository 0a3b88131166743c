"""What a torrent is: .torrent files and info dictionaries (BEP 3, BEP 52)."""
