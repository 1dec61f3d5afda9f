"""Cost of many simulated runs in addition to their own duration."""
