"""Saved runs, one JSON file each, and the history that several runs form."""
