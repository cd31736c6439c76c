"""The server backend against real servers on this machine, each with an adapter of ours in its own form."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from engram_bench.adapters import store as adapter_store
from engram_bench.adapters.exchange import export_adapter
from engram_bench.backends.registry import create, unavailable_reason
from engram_bench.backends.server import ServerBackend, served_model
from engram_bench.errors import BackendError
from engram_bench.models import Model
from engram_bench.records import GenerationSettings
from tests.backends.contract import EXAMPLES, PROMPTS, BackendContract, texts
from tests.tiny_gguf import write_gguf
from tests.tiny_models import TINY_MODELS

pytestmark = pytest.mark.model

SETTINGS = GenerationSettings(max_tokens=40)
ANSWERS = [example.answer for example in EXAMPLES]
START_S = 180.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model("tiny", TINY_MODELS["llama"](tmp_path_factory.mktemp("model")), fingerprint="t" * 64)


@pytest.fixture(scope="module")
def adapter(model: Model, tmp_path_factory: pytest.TempPathFactory) -> adapter_store.Adapter:
    folder = tmp_path_factory.mktemp("adapter")
    create("cpu").train(model, EXAMPLES, BackendContract.recipe, folder)
    return adapter_store.load(folder)


@contextmanager
def serving(command: list[str], log: Path) -> Iterator[str]:
    """The address of a server started with this command and ``--port``; it is ended afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with log.open("w") as output:
        server = subprocess.Popen([*command, "--port", str(port)], stdout=output, stderr=output, env=environment)
        try:
            _wait_for(f"http://127.0.0.1:{port}", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)


def _wait_for(url: str, server: subprocess.Popen[Any], log: Path) -> None:
    import httpx  # comes with transformers[serving]; environments without it collect this file, too

    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if server.poll() is not None:
            pytest.fail(f"the server ended: {log.read_text()[-2000:]}", pytrace=False)
        try:
            httpx.get(f"{url}/health", timeout=2, trust_env=False)
            return
        except httpx.HTTPError:
            time.sleep(0.2)
    pytest.fail(f"no server after {START_S} s: {log.read_text()[-2000:]}", pytrace=False)


@pytest.mark.skipif(unavailable_reason("mlx") is not None, reason="mlx-lm is not installed")
def test_mlx_lm_server_answers_with_the_exported_adapter(
    model: Model, adapter: adapter_store.Adapter, tmp_path: Path
) -> None:
    export_adapter(adapter, "mlx", tmp_path / "mlx", model=model)
    command = [sys.executable, "-m", "mlx_lm", "server", "--model", str(model.folder)]
    with serving([*command, "--adapter-path", str(tmp_path / "mlx")], tmp_path / "log") as url:
        backend = ServerBackend(server_url=url, baseline_model="default_model", candidate_model="default_model")
        any_model: Any = served_model("none")

        completions = backend.load(any_model, Path("default_model")).complete(PROMPTS, SETTINGS)
        streamed = "".join(backend.load(any_model, Path("default_model")).stream(PROMPTS[0], SETTINGS))

        assert texts(completions) == ANSWERS
        assert streamed == ANSWERS[0]
        assert all(each.stop_reason == "stop" and each.completion_tokens > 0 for each in completions)
        with pytest.raises(BackendError, match="no/such-model"):
            backend.load(any_model, Path("no/such-model")).complete(PROMPTS[:1], SETTINGS)
        backend.close()


@pytest.mark.skipif(find_spec("xllamacpp") is None, reason="xllamacpp, which brings llama.cpp, is not installed")
def test_llama_cpp_answers_with_the_exported_adapter(
    model: Model, adapter: adapter_store.Adapter, tmp_path: Path
) -> None:
    (exported,) = export_adapter(adapter, "gguf-lora", tmp_path / "gguf", model=model)
    base = write_gguf(model.folder, tmp_path / "base.gguf")
    command = [sys.executable, "-m", "tests.llama_server", "--model", str(base)]
    any_model: Any = served_model("base")
    answers = {}
    for name, lora in {"bare": [], "tuned": ["--lora", str(exported)]}.items():
        with serving([*command, *lora], tmp_path / "log") as url:
            backend = ServerBackend(server_url=url, baseline_model="base", candidate_model=name)
            answers[name] = texts(backend.load(any_model, Path(name)).complete(PROMPTS, SETTINGS))
            backend.close()

    assert answers["tuned"] == ANSWERS
    assert answers["bare"] != ANSWERS


@pytest.mark.skipif(find_spec("uvicorn") is None, reason="transformers[serving] is not installed")
def test_transformers_serve_answers_for_both_sides(
    model: Model, adapter: adapter_store.Adapter, tmp_path: Path
) -> None:
    export_adapter(adapter, "merged", tmp_path / "merged", model=model)
    bare = texts(create("cpu").load(model, None).complete(PROMPTS, SETTINGS))
    command = [
        sys.executable,
        "-m",
        "transformers.cli.transformers",
        "serve",
        "--host",
        "127.0.0.1",
        "--dtype",
        "float32",
    ]
    with serving(command, tmp_path / "log") as url:
        backend = ServerBackend(
            server_url=url,
            baseline_model=str(model.folder),
            candidate_model=str(tmp_path / "merged"),
            server_concurrency=1,
        )
        any_model: Any = served_model(str(model.folder))

        baseline = backend.load(any_model, None).complete(PROMPTS, SETTINGS)
        candidate = backend.load(any_model, tmp_path / "merged").complete(PROMPTS, SETTINGS)

        assert texts(candidate) == ANSWERS
        assert texts(baseline) != ANSWERS
        assert len(baseline) == len(bare)
        backend.close()
