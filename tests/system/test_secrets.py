from __future__ import annotations

import pytest

from engram_bench import door
from engram_bench.door import printable
from engram_bench.system.secrets import hide_secrets
from engram_bench.system.warning import warn


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_secrets", frozenset())
    monkeypatch.setattr(door, "_secret_forms", ())


def test_keys_of_the_environment_and_passwords_of_addresses_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGRAM_SERVER_API_KEY", "sk-one-1111")
    monkeypatch.setenv("HF_TOKEN", "hf_two2222")

    hide_secrets("http://ann:three3333@host", None, "")

    assert printable("sk-one-1111 hf_two2222 three3333 host") == "HIDDEN HIDDEN HIDDEN host"


def test_without_secrets_nothing_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENGRAM_SERVER_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    hide_secrets("http://host:8000/v1")

    assert printable("http://host:8000/v1") == "http://host:8000/v1"


def test_a_warning_is_inert() -> None:
    with pytest.warns(UserWarning, match=r"moved \\x1b\[2J aside"):
        warn("moved \x1b[2J aside")
