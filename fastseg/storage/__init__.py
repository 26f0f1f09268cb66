"""Files that are written whole or not at all, cached, and checked against their hash."""
