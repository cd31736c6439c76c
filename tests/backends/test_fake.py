"""The fake backend keeps the contract of the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from engram_bench.backends.fake import FakeBackend, fake_model
from engram_bench.errors import UnsupportedError
from tests.backends.contract import EXAMPLES, BackendContract, Dtype


class TestFakeBackend(BackendContract):
    dtypes: ClassVar[tuple[Dtype, ...]] = ()

    @classmethod
    def make_backend(cls) -> FakeBackend:
        return FakeBackend()

    @classmethod
    def make_model(cls, folder: Path) -> Any:
        return fake_model("fake")


def test_a_table_has_no_memory_to_extend(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="'fake' cannot extend a memory, expected backend cpu or cuda"):
        FakeBackend().extend_memory(fake_model("fake"), tmp_path, EXAMPLES, tmp_path, steps=1)
