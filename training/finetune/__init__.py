"""Fine-tuning of SAM-shaped networks on few pairs of image and mask."""
