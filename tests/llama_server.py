"""llama.cpp's own server, from a wheel that brings it: ``python -m tests.llama_server --model M.gguf --port N``."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import Any

import xllamacpp


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, type=Path, help="GGUF file")
    parser.add_argument("--lora", type=Path, help="GGUF file of an adapter")
    parser.add_argument("--port", type=int, required=True)
    asked = parser.parse_args()
    server = started(asked.model, asked.lora, port=asked.port)
    print(server.listening_address, flush=True)
    signal.pause()


def started(model: Path, lora: Path | None, *, port: int, context: int = 512) -> Any:
    """A server that answers at its ``listening_address``, from threads of its own, for as long as it is referred to."""
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx, params.n_parallel, params.port = context, 1, port
    params.verbosity = 2  # warnings
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    if lora is not None:
        adapter = xllamacpp.CommonAdapterLoraInfo()
        adapter.path, adapter.scale = str(lora), 1.0
        params.lora_adapters = [adapter]
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
