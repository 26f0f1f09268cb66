"""Training of sam-nano: scenes, prompts, losses, the loop, calibration, publication."""
