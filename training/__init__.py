"""Training of the embedded weights: generated scenes, losses, training loops, evaluation."""
