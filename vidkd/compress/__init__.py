"""Smaller networks from trained ones: filters pruned, weights made sparse, layers factorised. Each step records a plan that rebuilds it."""
