"""Weights as people have them: files in, named tensors of a known network out."""
