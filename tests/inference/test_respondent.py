"""The identity of a respondent: completions that are stored today must be found again."""

from __future__ import annotations

import pytest

from engram_bench.backends.fake import FakeGenerator, FakeModel
from engram_bench.inference.respondent import Respondent
from engram_bench.records import DeviceInfo, GenerationSettings, Prompt

MODEL = FakeModel()
DEVICE = DeviceInfo("cpu", "cpu", "float32", versions={"torch": "2.13.0"})


def respondent(adapter: str) -> Respondent:
    return Respondent(MODEL, DEVICE, lambda: FakeGenerator({}), adapter)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("adapter", "key"),
    [
        ("", "1423d6694dec4979f23532274297aeabbc865b310b2a658db4a70a7338af3339"),
        ("abc123", "f2feb35721b5a26c3bd9d772db80c0f04a8e126a774e56f217d0a1e379de76dd"),
        ("abc123 merged", "778d3cb31854d668e30039df87f91910606a446daa6ea294c256e8c67e17297e"),
        (
            "abc123, routed by state 0123 0.5",
            "ee464eabe5d86f840c8fff9c706f999ad3849b317352d5ba9bc72b4f2c4ac097",
        ),
    ],
    ids=["bare", "attached", "form", "routed"],
)
def test_keys_of_completions_never_change(adapter: str, key: str) -> None:
    tokens = MODEL.tokenizer.encode_prompt(Prompt("Port of SSH?"))

    assert respondent(adapter).key(tokens, GenerationSettings()) == key


def test_identity_names_weights_adapter_template_and_library() -> None:
    assert respondent("abc123").identity == (
        f'["{MODEL.fingerprint}","abc123","fake-template",["cpu","float32",{{"torch":"2.13.0"}}]]'
    )
