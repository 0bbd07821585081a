"""Benchmarks of `softmaxcode`: ``python -m benchmarks.solve``; see docs/benchmarks.md for the results."""
