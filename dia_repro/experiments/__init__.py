"""Experiments: what is trained, on what and how, without a word of torch."""
