"""A file a verb: arguments, one call, output."""
