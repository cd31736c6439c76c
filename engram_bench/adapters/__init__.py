"""Adapters on disk: their store, their manifest, their formats, and other tools' forms of them."""
