"""Routers: which questions reach the adapter, and which the bare model."""
