"""Every model that takes prompts; the calls of all of them are those of ``Sam``."""

from __future__ import annotations

from typing import TypeAlias

from fastseg.guided.ritm import Ritm
from fastseg.guided.specialist import Specialist
from fastseg.sam.model import Sam

PromptModel: TypeAlias = Sam | Ritm | Specialist
