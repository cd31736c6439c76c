"""Parts that all backends share and that need no library: batches, decoding, the training loop."""
