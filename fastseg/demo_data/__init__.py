"""The photograph of the demonstration; ``SOURCE.md`` says where it comes from."""

from pathlib import Path

PICTURE = Path(__file__).parent / "coins.png"
"""24 Greek coins, 303 x 384 pixels, grey."""
