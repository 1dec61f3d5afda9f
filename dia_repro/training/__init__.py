"""Training: the step, the loop, the schedule, checkpoints and provenance."""
