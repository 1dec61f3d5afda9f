"""Benchmarks of the training step, of the executors and of storage, for those who change them."""
