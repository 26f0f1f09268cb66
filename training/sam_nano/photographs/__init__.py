"""Photographs and drawings without labels: where they are from, and scenes made of them."""
