"""Whether a server has the models that a session asks, found before the first question."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engram_bench.backends.server import API_KEY
from engram_bench.backends.server.chat_api import ChatApi

if TYPE_CHECKING:
    from pathlib import Path

    from engram_bench.backends.server import ServedModel


def check_served(
    model: ServedModel,
    adapter: Path | None,
    *,
    server_url: str,
    baseline_model: str,
    candidate_model: str = "",
    server_concurrency: int = 8,
    server_timeout: float = 120.0,
) -> None:
    """Raise an error unless the server has both models.

    A model that the server lists is there. Another one is asked for one token, since some servers answer under any name.

    Raises:
        BackendError: The server cannot be reached, or refuses one of the models; names those that the server lists.
    """
    api = ChatApi(server_url, concurrency=1, timeout_s=server_timeout, key=os.environ.get(API_KEY, ""))
    try:
        api.check([name for name in (baseline_model, candidate_model) if name])
    finally:
        api.close()
