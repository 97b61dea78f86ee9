"""Timings of vidkd against the work that cannot be avoided and against other pipelines; `python benchmarks/run.py` runs them all."""
