"""From a magnet link to the files."""
