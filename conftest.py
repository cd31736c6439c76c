"""Loads the plugin from a checkout that is not installed; an installed copy is the same plugin under the same name."""

pytest_plugins = ["engram_bench.plugin"]
