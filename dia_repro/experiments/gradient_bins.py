"""What is recorded of the gradients of Figure 6: quantiles, and bins of a histogram."""

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
# Of the histogram: powers of ten, and bins for each.
LOWEST, HIGHEST, BINS_PER_DECADE = -12, 4, 10
BINS = (HIGHEST - LOWEST) * BINS_PER_DECADE + 2  # with those below and above
