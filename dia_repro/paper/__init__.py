"""The paper's printed values, hyperparameters, misprints and claims, and results of others.

Huang, Liang, Liang, Yang: DIANet: Dense-and-Implicit Attention Network, AAAI 2020. The values are
in TOML files in this folder, as printed; no other part of the suite repeats any of them.
"""
