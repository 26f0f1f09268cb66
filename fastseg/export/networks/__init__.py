"""Torch modules shaped to the graph contract, one network a file."""
