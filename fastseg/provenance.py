"""The notice that every result carries."""

from __future__ import annotations

NOTICE = "For research use only; not a medical device."
