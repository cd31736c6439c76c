"""The sanity guards by name: what each one promises, and which ones run only where they are asked for.

The checks behind the names are in ``engram_bench.session.guards``.
"""

from __future__ import annotations

from collections.abc import Mapping

GUARDS: Mapping[str, str] = {
    "changes-a-logit": "The adapter changes at least one log-probability after a few prompts.",
    "finite-weights": "No weight of the adapter is NaN or infinite.",
    "same-base": "The adapter's base model is the one that is loaded.",
    "stops-by-itself": "Enough answers end with the end-of-turn token instead of at the limit.",
    "no-template-text": "No answer holds the text of a chat-template token.",
    "batched-equals-single": "An answer is the same whether its prompt is asked alone or among others.",
    "same-prompt-tokens": "The model is trained on the very tokens it is asked with.",
    "null-adapter-fails": (
        "Neither an untrained adapter of the same shape nor one of random weights passes the accuracy gates."
    ),
}
"""Name, as node ids write it (``test_sanity[stops-by-itself]``) → what holds where the guard holds."""

OPT_IN = ("null-adapter-fails",)
"""Guards that cost a whole evaluation."""
