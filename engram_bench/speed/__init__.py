"""Timed rounds of two sides beside each other, and what they run under."""
