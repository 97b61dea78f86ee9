"""Running a model from its file: metadata, pre- and post-processing in numpy, `Detections`. Nothing here imports torch."""
