"""Training of the echo networks: phantoms, the loop, evaluation, publication."""
