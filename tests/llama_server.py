"""llama.cpp's own server, from a wheel that brings it: ``python -m tests.llama_server --model M.gguf --port N``."""

from __future__ import annotations

import argparse
import signal

import xllamacpp


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="GGUF file")
    parser.add_argument("--lora", help="GGUF file of an adapter")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--context", type=int, default=512)
    asked = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = asked.model
    params.n_ctx, params.n_parallel, params.port = asked.context, 1, asked.port
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    if asked.lora:
        adapter = xllamacpp.CommonAdapterLoraInfo()
        adapter.path, adapter.scale = asked.lora, 1.0
        params.lora_adapters = [adapter]
    server = xllamacpp.Server(params)  # answers from its own threads for as long as it is referred to
    print(server.listening_address, flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
