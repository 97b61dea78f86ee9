"""Speed against accuracy: models measured in turn on the same clips, in this process and in fresh ones."""
