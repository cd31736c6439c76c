from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

from engram_bench.errors import ModelError
from engram_bench.models import ChatTokenizer
from engram_bench.models.gguf_convert import convert_gguf
from engram_bench.records import Prompt
from tests.tiny_gguf import write_gguf
from tests.tiny_models import make_tiny_llama, make_tiny_qwen2

TEXTS = ["What is the HTTP code?", "404 and 1024", "naïve  🙂\n\tx", "don't <|im_end|>"]


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_llama_comes_back_tensor_for_tensor(tmp_path: Path, tied: bool) -> None:
    source = make_tiny_llama(tmp_path / "source", tied=tied)

    convert_gguf(write_gguf(source, tmp_path / "model.gguf"), tmp_path / "back")

    original, back = load_file(source / "model.safetensors"), load_file(tmp_path / "back" / "model.safetensors")
    assert set(back) == set(original)
    assert all(np.array_equal(back[name], original[name]) for name in original)


def test_qwen2_comes_back_tensor_for_tensor(tmp_path: Path) -> None:
    source = make_tiny_qwen2(tmp_path / "source")

    convert_gguf(write_gguf(source, tmp_path / "m.gguf", architecture="qwen2", pre="qwen2"), tmp_path / "back")

    original, back = load_file(source / "model.safetensors"), load_file(tmp_path / "back" / "model.safetensors")
    assert set(back) == set(original)
    assert all(np.array_equal(back[name], original[name]) for name in original)


@pytest.mark.parametrize(
    ("quantization", "tolerance"),
    [
        (gguf.GGMLQuantizationType.Q8_0, 0.01),
        (gguf.GGMLQuantizationType.Q4_1, 0.15),
        (gguf.GGMLQuantizationType.F16, 1e-3),
    ],
    ids=["q8_0", "q4_1", "f16"],
)
def test_quantized_matrices_come_back_as_near_as_their_bits_allow(
    tmp_path: Path, quantization: gguf.GGMLQuantizationType, tolerance: float
) -> None:
    source = make_tiny_llama(tmp_path / "source")

    convert_gguf(write_gguf(source, tmp_path / "m.gguf", quantization=quantization), tmp_path / "back")

    original, back = load_file(source / "model.safetensors"), load_file(tmp_path / "back" / "model.safetensors")
    worst = max(float(np.abs(back[name] - original[name]).max() / np.abs(original[name]).max()) for name in original)
    assert back["model.embed_tokens.weight"].dtype == np.float32
    assert 0 < worst < tolerance


def test_config_comes_back(tmp_path: Path) -> None:
    source = make_tiny_llama(tmp_path / "source")

    convert_gguf(write_gguf(source, tmp_path / "model.gguf"), tmp_path / "back")

    original, back = (json.loads((folder / "config.json").read_text()) for folder in (source, tmp_path / "back"))
    assert {name: back.get(name) for name in original} == original


def test_tokenizer_and_template_come_back(tmp_path: Path) -> None:
    source = make_tiny_llama(tmp_path / "source")
    convert_gguf(write_gguf(source, tmp_path / "model.gguf"), tmp_path / "back")

    original, back = ChatTokenizer(source), ChatTokenizer(tmp_path / "back")

    assert [back.encode(text) for text in TEXTS] == [original.encode(text) for text in TEXTS]
    assert back.encode_prompt(Prompt("404?")) == original.encode_prompt(Prompt("404?"))
    assert (back.stop_ids, back.pad_id, back.special_texts) == (
        original.stop_ids,
        original.pad_id,
        original.special_texts,
    )


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("smollm", ["4", "0", "4", " don", "'t"]),
        ("gpt-2", ["404", " don", "'t"]),
        ("qwen2", ["4", "0", "4", " don", "'t"]),
        ("llama-bpe", ["404", " don", "'t"]),
    ],
)
def test_text_is_split_as_the_file_says(tmp_path: Path, pre: str, pieces: list[str]) -> None:
    from tokenizers import Tokenizer

    convert_gguf(write_gguf(make_tiny_llama(tmp_path / "a"), tmp_path / "model.gguf", pre=pre), tmp_path / "back")
    splitter = Tokenizer.from_file(str(tmp_path / "back" / "tokenizer.json")).pre_tokenizer

    assert [piece.replace("Ġ", " ") for piece, _ in splitter.pre_tokenize_str("404 don't")] == pieces


def test_converted_model_computes_what_the_original_does(tmp_path: Path) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    source = make_tiny_llama(tmp_path / "source")
    convert_gguf(write_gguf(source, tmp_path / "model.gguf"), tmp_path / "back")
    ids = torch.tensor([[1, 50, 60, 70]])

    original, back = (
        transformers.AutoModelForCausalLM.from_pretrained(folder)(ids).logits for folder in (source, tmp_path / "back")
    )

    assert torch.equal(original, back)


# ── bad files ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.05, 0.1, 0.5, 0.999])
def test_cut_file_is_named(tmp_path: Path, share: float) -> None:
    whole = write_gguf(make_tiny_llama(tmp_path / "a"), tmp_path / "whole.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: int(len(whole) * share)])

    with pytest.raises(ModelError, match=r"cut\.gguf: found \d+ bytes.*expected a whole GGUF file"):
        convert_gguf(tmp_path / "cut.gguf", tmp_path / "back")


def test_other_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"PK" * 1000)

    with pytest.raises(ModelError, match=r"magic.*expected a whole GGUF file"):
        convert_gguf(tmp_path / "a.gguf", tmp_path / "back")


def test_missing_tensor_is_named(tmp_path: Path) -> None:
    path = write_gguf(make_tiny_llama(tmp_path / "a"), tmp_path / "m.gguf", leave_out="blk.1.ffn_up.weight")

    with pytest.raises(ModelError, match=r"m\.gguf: no tensor blk\.1\.ffn_up\.weight"):
        convert_gguf(path, tmp_path / "back")


def test_unknown_architecture_names_the_known_ones(tmp_path: Path) -> None:
    path = write_gguf(make_tiny_llama(tmp_path / "a"), tmp_path / "m.gguf", architecture="gemma3")

    with pytest.raises(ModelError, match="architecture 'gemma3', expected llama or qwen2"):
        convert_gguf(path, tmp_path / "back")


def test_unknown_splitting_names_the_known_ones(tmp_path: Path) -> None:
    path = write_gguf(make_tiny_llama(tmp_path / "a"), tmp_path / "m.gguf", pre="tekken")

    with pytest.raises(ModelError, match="pre-tokenizer 'tekken', expected gpt-2 or llama-bpe or qwen2 or smollm"):
        convert_gguf(path, tmp_path / "back")


def test_scaled_rotary_positions_are_refused(tmp_path: Path) -> None:
    path = write_gguf(make_tiny_llama(tmp_path / "a"), tmp_path / "m.gguf", extra={"llama.rope.scaling.type": "yarn"})

    with pytest.raises(ModelError, match="rope scaling 'yarn', expected none"):
        convert_gguf(path, tmp_path / "back")


def test_partly_rotary_heads_are_refused(tmp_path: Path) -> None:
    path = write_gguf(make_tiny_llama(tmp_path / "a"), tmp_path / "m.gguf", extra={"llama.rope.dimension_count": 8})

    with pytest.raises(ModelError, match="rotary size 8, expected 16"):
        convert_gguf(path, tmp_path / "back")


def test_unknown_tensor_is_named(tmp_path: Path) -> None:
    path = write_gguf(make_tiny_llama(tmp_path / "a"), tmp_path / "m.gguf", add="rope_freqs.weight")

    with pytest.raises(ModelError, match=r"unknown tensor rope_freqs\.weight"):
        convert_gguf(path, tmp_path / "back")


def test_a_quantization_that_cannot_be_undone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(make_tiny_llama(tmp_path / "a"), tmp_path / "m.gguf", quantization=gguf.GGMLQuantizationType.Q8_0)
    monkeypatch.delitem(gguf.quants._type_traits, gguf.GGMLQuantizationType.Q8_0)

    with pytest.raises(ModelError, match=r"token_embd\.weight is Q8_0, expected a quantization"):
        convert_gguf(path, tmp_path / "back")


def test_missing_field_is_named(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    with pytest.raises(ModelError, match=r"m\.gguf: no field llama\.attention\.head_count"):
        convert_gguf(tmp_path / "m.gguf", tmp_path / "back")
