"""Comparison of two configurations of a model, and the gate that lets one replace the other."""

from fastseg.validation.comparison import gate

__all__ = ["gate"]
