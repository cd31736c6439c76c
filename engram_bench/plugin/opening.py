"""The bench of a pytest session."""

from __future__ import annotations

from pathlib import Path

import pytest

from engram_bench.models import default_cache_dir
from engram_bench.plugin.progress import terminal_progress
from engram_bench.records import PatternSet
from engram_bench.session.bench import Bench
from engram_bench.session.settings import Settings
from engram_bench.session.shared import Shared
from engram_bench.system.progress import about


def open_bench(
    config: pytest.Config, settings: Settings, sets: tuple[PatternSet, ...], session: str, shared: Shared
) -> Bench:
    """A bench that shows its progress on pytest's terminal, and that has loaded nothing yet."""
    return Bench(
        settings,
        sets,
        default_cache_dir(),
        progress=about(settings.candidate, terminal_progress(config)),
        session=session,
        session_dir=shared_folder(config),
        shared=shared,
    )


def shared_folder(config: pytest.Config) -> Path | None:
    """The folder that xdist's controller gave its workers; None in any other process."""
    given = getattr(config, "workerinput", {}).get("engram_folder")
    return Path(given) if given else None
