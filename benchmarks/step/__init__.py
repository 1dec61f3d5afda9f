"""The training step against a plain loop, and how fast photographs are read."""
