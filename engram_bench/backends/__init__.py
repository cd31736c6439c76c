"""Backends: the libraries that train adapters and answer prompts, behind one protocol and one registry."""
