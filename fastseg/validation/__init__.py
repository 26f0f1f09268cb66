"""Two ways of running a model compared, and the gate that lets one take the place of another."""

from fastseg.validation.comparison import gate

__all__ = ["gate"]
