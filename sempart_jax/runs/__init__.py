"""A run on the disk: its configuration, record, metrics and checkpoints."""
