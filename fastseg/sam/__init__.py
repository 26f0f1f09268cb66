"""Promptable models of SAM's shape: prompts, embeddings, the decoder and everything mode."""
