"""Verdicts on claims: statistics, rules, evidence from runs and analyses."""
