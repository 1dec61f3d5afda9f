"""The whole database as files for other programs."""
