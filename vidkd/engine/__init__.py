"""Fit, evaluate, checkpoint, resume: knows a task by its interface only."""
