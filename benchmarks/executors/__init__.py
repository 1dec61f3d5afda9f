"""What many simulated runs cost beside their own duration."""
