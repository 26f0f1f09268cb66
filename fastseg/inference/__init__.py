"""Opened graphs of a model, the limit on concurrent runs, and plans that were tuned."""
