"""Atomic writes, the cache folder, and checksummed files."""
