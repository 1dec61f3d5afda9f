"""Questions asked of networks and runs beyond their accuracy."""
