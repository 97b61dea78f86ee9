"""Smaller networks from trained ones: filters pruned, layers factorised. Each step records a plan that rebuilds it."""
