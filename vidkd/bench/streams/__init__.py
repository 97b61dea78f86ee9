"""Studies of online distillation along streams: methods x shares of oracle calls x seeds x streams, with block-bootstrap intervals."""
