"""Where pytest keeps what the plugin knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from engram_bench.plugin.session import BenchSession

SESSION: pytest.StashKey[BenchSession] = pytest.StashKey()
