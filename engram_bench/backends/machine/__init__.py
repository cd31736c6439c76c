"""Abilities of this machine: its processor, its GPU and its matrix libraries."""
