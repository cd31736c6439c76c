"""The secrets of a session, which the door hides: keys of the environment, passwords of addresses."""

from __future__ import annotations

import os

from engram_bench.door import hide, hide_credentials

SECRET_VARIABLES = ("ENGRAM_SERVER_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""Environment variables with keys."""


def hide_secrets(*addresses: str | None) -> None:
    """Hide the keys of the environment and the users and passwords of these addresses, wherever words are shown or saved."""
    hide(*(os.environ.get(name) for name in SECRET_VARIABLES))
    for address in addresses:
        hide_credentials(address or "")
