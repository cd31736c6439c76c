"""What every backend shares, whatever library computes: batches, decoding, the training loop."""
