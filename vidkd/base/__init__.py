"""What all layers use: errors, atomic files, walks over many files, timing. Nothing of video or learning."""
