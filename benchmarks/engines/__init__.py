"""Engines that score the same lists: one module an engine, each with ``start``; run by ``python -m benchmarks.engines``."""
