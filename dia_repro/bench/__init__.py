"""How fast training is here, measured against what one would otherwise run."""
