"""Whether a question reaches the adapter or the bare model."""
