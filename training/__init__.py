"""How the embedded weights were made: generated scenes, losses, training loops, evaluation."""
