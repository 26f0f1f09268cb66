"""Runtimes behind one seam: a loaded graph with five members."""
