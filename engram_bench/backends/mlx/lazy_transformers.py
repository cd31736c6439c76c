"""Import of mlx-lm without transformers, which would import torch where torch is installed.

mlx-lm imports four names of transformers for its own tokenizers. This package does not use these tokenizers, because prompts
must have the same token ids on every backend. While mlx-lm is imported, ``transformers`` is a stand-in whose classes become
the real ones at their first use, so ``mlx_lm.load`` still works later in the same process. The import takes 0.3 s instead of
3.5 s.
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
"""Names that mlx-lm 0.32 imports, by module."""


class _Deferred(type):
    """Stand-in for a class of transformers, replaced by the real class at its first use."""

    _home: str

    def _real(cls) -> Any:
        return getattr(importlib.import_module(cls._home), cls.__name__)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):  # introspection by dataclasses or functools does not count as use
            raise AttributeError(name)
        return getattr(cls._real(), name)

    def __instancecheck__(cls, instance: object) -> bool:
        return "transformers" in sys.modules and isinstance(instance, cls._real())

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls._real()(*args, **kwargs)

    def register(cls, *args: Any, **kwargs: Any) -> None:
        """Do nothing: registering mlx-lm's tokenizer class for one model family would need the real library."""


@contextmanager
def deferred_transformers() -> Iterator[None]:
    """Context in which ``import transformers`` gives the stand-in, unless the real module is imported already."""
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
