"""Graphs in 8-bit integers, calibrated on images."""
