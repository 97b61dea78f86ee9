"""What every room stands on: errors, atomic files, walks over many files, timing. Nothing of video or learning."""
