"""Text from comparisons, runs and verdicts. Nothing here computes: what is printed was measured on a floor below."""
