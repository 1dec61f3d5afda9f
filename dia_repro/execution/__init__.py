"""What runs a set of pending runs: here, or in worker processes."""
