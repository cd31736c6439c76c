"""Scored rows → metrics, comparisons and verdicts. Nothing here loads a model or a file."""
