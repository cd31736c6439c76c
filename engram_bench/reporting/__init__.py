"""Reports on comparisons, runs and verdicts. Nothing here computes: every figure comes from a lower layer."""
