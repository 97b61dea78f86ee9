"""Studies: speed and accuracy of methods, seeds and folds, with intervals."""
