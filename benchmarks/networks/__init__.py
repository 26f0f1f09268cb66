"""A table of all exported networks: size, arithmetic, parity and time, with random weights."""
