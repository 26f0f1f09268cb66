"""SAM checkpoints as named tensors: the public names of ``fastseg.export.checkpoints.sam``."""

from fastseg.export.checkpoints.sam import Checkpoint, read

__all__ = ["Checkpoint", "read"]
