"""Performance suites: timings of vidkd and its peers, in rounds."""
