"""Campaigns of runs: plans, checks, jobs, workers, and the executors that they are given to."""
