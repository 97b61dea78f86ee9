"""A classifier along a video: windows of a file, and decisions along a running source. Only torch_classifier imports torch."""
