"""The sanity guards by name: what each one checks, and which ones run only on request.

The checks behind the names are in ``engram_bench.session.guards``.
"""

from __future__ import annotations

from collections.abc import Mapping

GUARDS: Mapping[str, str] = {
    "changes-a-logit": "The adapter changes at least one log-probability after a few prompts.",
    "finite-weights": "No weight of the adapter is NaN or infinite.",
    "same-base": "The adapter's base model is the one that is loaded.",
    "stops-by-itself": "Enough answers end with the end-of-turn token and not at the limit.",
    "no-template-text": "No answer holds the text of a chat-template token.",
    "batched-equals-single": "An answer is the same whether its prompt is asked alone or among others.",
    "same-prompt-tokens": "Training and asking use exactly the same tokens of a prompt.",
    "null-adapter-fails": (
        "Neither an untrained adapter of the same shape nor one of random weights passes the accuracy gates."
    ),
}
"""Name, as node ids write it (``test_sanity[stops-by-itself]``) → statement that is true where the guard holds."""

OPT_IN = ("null-adapter-fails",)
"""Guards that run only on request, because each costs a whole evaluation."""
