"""Figures and the one-file HTML page of a run or a study."""
