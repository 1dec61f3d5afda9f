"""dia-repro: a reproduction suite for DIANet: Dense-and-Implicit Attention Network."""

__version__ = "0.1.0"
