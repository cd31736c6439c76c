"""Saved runs: one JSON file each, and what a series of them shows."""
