"""Model references turned into local folders, and their tokenizers. Imports nothing heavy before it is used."""

from engram_bench.models.chat import ChatTokenizer

__all__ = ["ChatTokenizer"]
