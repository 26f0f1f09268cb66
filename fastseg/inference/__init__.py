"""Sessions of a model's graphs, the concurrency limiter, and tuned plans."""
