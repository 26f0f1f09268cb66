"""The fastest exact inference for promptable and prompt-free segmentation."""
