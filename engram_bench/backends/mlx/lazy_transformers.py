"""Importing mlx-lm without importing transformers, which would import torch where that is installed.

mlx-lm imports three names of transformers for its own tokenizers, which this package does not use (prompts must have the
same ids on every backend). While mlx-lm is imported, ``transformers`` is a stand-in whose classes turn into the real ones
when anything is asked of them, so ``mlx_lm.load`` still works later in the same process. Importing takes 0.3 s instead of 3.5 s.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

NAMES = {
    "transformers": ("AutoTokenizer", "PreTrainedTokenizer", "PreTrainedTokenizerFast"),
    "transformers.tokenization_utils_base": ("PreTrainedTokenizerBase",),
}
"""What mlx-lm 0.32 imports, by module."""


class _Deferred(type):
    """A class that stands for one of transformers until something is asked of it."""

    _home: str

    def _real(cls) -> Any:
        return getattr(importlib.import_module(cls._home), cls.__name__)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):  # introspection by dataclasses, functools and the like is not use
            raise AttributeError(name)
        return getattr(cls._real(), name)

    def __instancecheck__(cls, instance: object) -> bool:
        return "transformers" in sys.modules and isinstance(instance, cls._real())

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls._real()(*args, **kwargs)

    def register(cls, *args: Any, **kwargs: Any) -> None:
        """Leave out mlx-lm's own tokenizer class for one model family: registering needs the real library."""


@contextmanager
def deferred_transformers() -> Iterator[None]:
    """While this is open, ``import transformers`` gives the stand-in; nothing happens if the real one is imported."""
    if "transformers" in sys.modules:
        yield
        return
    for home, names in NAMES.items():
        module = ModuleType(home)
        for name in names:
            setattr(module, name, _Deferred(name, (), {"_home": home}))
        sys.modules[home] = module
    try:
        yield
    finally:
        for home in NAMES:
            del sys.modules[home]
