"""A test-first benchmark suite for tuned language models, as a pytest plugin.

Importing this package, and loading its plugin, imports no torch, mlx or transformers.
"""

__version__ = "0.1.0"
