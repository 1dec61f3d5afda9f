"""Drawing of computed values: nothing here computes a figure."""
