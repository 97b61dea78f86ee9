"""vidkd: distillation in video. A student that sees less than its teacher learns from it."""

__version__ = "0.1.0"
