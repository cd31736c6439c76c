"""Models: local folders behind model references, and their tokenizers. Heavy libraries are imported at their first use."""

from engram_bench.models.cache import default_cache_dir
from engram_bench.models.chat import ChatTokenizer
from engram_bench.models.model import Model
from engram_bench.models.presets import DEFAULT_MODEL, PRESETS, Preset
from engram_bench.models.resolve import resolve_model

__all__ = ["DEFAULT_MODEL", "PRESETS", "ChatTokenizer", "Model", "Preset", "default_cache_dir", "resolve_model"]
