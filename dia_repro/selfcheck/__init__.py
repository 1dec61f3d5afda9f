"""Load and faults, put on purpose: whether results survive them on this machine."""
