"""The results database and checkpoints under load and faults."""
