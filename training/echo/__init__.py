"""Training of the echo networks: phantoms, the loop, and what comes out of it."""
