"""Metrics, comparisons and verdicts, computed from scored rows. Nothing here loads a model or a file."""
