"""Experiments: specs, recipes and protocols; without torch."""
