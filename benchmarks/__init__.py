"""Measurements that are too long for the tests: run as modules, print Markdown tables."""
