"""How sam-nano was made: scenes, prompts, losses, the loop, calibration, publication."""
