"""Time, memory and costs of a model on this machine."""
