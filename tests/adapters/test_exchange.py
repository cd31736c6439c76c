"""Adapters leave in other tools' forms and come back, checked against the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from safetensors.numpy import load_file, save_file

from engram_bench.adapters import store as adapter_store
from engram_bench.adapters.exchange import FORMATS, export_adapter, import_adapter
from engram_bench.adapters.found import remark
from engram_bench.adapters.layout import LoraUpdate, read_mlx, read_peft, read_updates, write_mlx, write_peft
from engram_bench.adapters.store import Adapter
from engram_bench.errors import AdapterError, ModelError, UsageError
from engram_bench.models import Model
from engram_bench.models.tensors import linear_shapes, stored_tensors
from engram_bench.records import Recipe
from tests.tiny_gguf import permuted
from tests.tiny_models import TINY_MODELS

Q0, K1, DOWN1 = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.k_proj", "model.layers.1.mlp.down_proj"
SHAPES = {Q0: (64, 64), K1: (32, 64), DOWN1: (64, 128)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model("tiny-llama", TINY_MODELS["llama"](tmp_path_factory.mktemp("llama")), fingerprint="f" * 64)


def updates(seed: int = 0, *, rank: int = 4, scale: float = 2.0) -> dict[str, LoraUpdate]:
    random = np.random.default_rng(seed)
    return {
        name: LoraUpdate(
            random.standard_normal((rank, inputs)).astype(np.float32),
            random.standard_normal((outputs, rank)).astype(np.float32),
            scale,
        )
        for name, (outputs, inputs) in SHAPES.items()
    }


def write_folder(folder: Path, made: dict[str, LoraUpdate], **config: Any) -> Path:
    """A PEFT folder of rank 4 and alpha 8, some of its configuration replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    write_peft(folder, made, Recipe(rank=4, alpha=8.0), base="somebody/model")
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


@pytest.fixture
def adapter(tmp_path: Path) -> Adapter:
    return adapter_store.load(write_folder(tmp_path / "mine", updates()))


def assert_same(found: dict[str, LoraUpdate], expected: dict[str, LoraUpdate]) -> None:
    assert set(found) == set(expected)
    for name, update in expected.items():
        np.testing.assert_array_equal(found[name].a, update.a)
        np.testing.assert_array_equal(found[name].b, update.b)
        assert found[name].scale == update.scale


# ── export ──────────────────────────────────────────────────────────────────────────────────────


def test_peft_form_holds_the_same_updates(adapter: Adapter, model: Model, tmp_path: Path) -> None:
    files = export_adapter(adapter, "peft", tmp_path / "out", model=model)

    assert [path.name for path in files] == ["adapter_config.json", "adapter_model.safetensors"]
    assert_same(read_peft(tmp_path / "out"), updates())


def test_mlx_form_holds_the_same_updates(adapter: Adapter, model: Model, tmp_path: Path) -> None:
    files = export_adapter(adapter, "mlx", tmp_path / "out", model=model)

    assert [path.name for path in files] == ["adapter_config.json", "adapters.safetensors"]
    assert_same(read_mlx(tmp_path / "out"), updates())
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["num_layers"], config["lora_parameters"]["scale"]) == (2, 2.0)


def test_merged_form_is_a_model_folder_with_the_updates_in_its_weights(
    adapter: Adapter, model: Model, tmp_path: Path
) -> None:
    export_adapter(adapter, "merged", tmp_path / "out", model=model)

    before, after = load_file(model.folder / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    made = updates()
    assert set(after) == set(before)
    for name in before:
        layer = name.removesuffix(".weight")
        added = 2.0 * made[layer].b @ made[layer].a if layer in made else 0.0
        np.testing.assert_allclose(after[name], before[name] + added, rtol=1e-6, atol=1e-6)
    merged = Model("merged", tmp_path / "out", fingerprint="m" * 64)
    assert merged.tokenizer.template_fingerprint == model.tokenizer.template_fingerprint
    assert merged.config["dtype"] == "float32"


def test_gguf_form_follows_llama_cpp(adapter: Adapter, model: Model, tmp_path: Path) -> None:
    (path,) = export_adapter(adapter, "gguf-lora", tmp_path / "out", model=model)

    reader = GGUFReader(path)
    facts = {name: field.contents() for name, field in reader.fields.items()}
    assert (facts["general.architecture"], facts["general.type"]) == ("llama", "adapter")
    assert (facts["adapter.type"], facts["adapter.lora.alpha"]) == ("lora", 8.0)
    shapes = {tensor.name: tuple(tensor.data.shape) for tensor in reader.tensors}
    assert shapes == {
        "blk.0.attn_q.weight.lora_a": (4, 64),
        "blk.0.attn_q.weight.lora_b": (64, 4),
        "blk.1.attn_k.weight.lora_a": (4, 64),
        "blk.1.attn_k.weight.lora_b": (32, 4),
        "blk.1.ffn_down.weight.lora_a": (4, 128),
        "blk.1.ffn_down.weight.lora_b": (64, 4),
    }


@pytest.mark.parametrize(
    ("layer", "name", "heads"),
    [(Q0, "blk.0.attn_q", 4), (K1, "blk.1.attn_k", 2), (DOWN1, "blk.1.ffn_down", None)],
    ids=["q", "k", "down"],
)
def test_gguf_form_fits_the_rows_of_a_gguf_model(
    adapter: Adapter, model: Model, tmp_path: Path, layer: str, name: str, heads: int | None
) -> None:
    """llama.cpp's weight plus its update is the permuted sum of ours."""
    (path,) = export_adapter(adapter, "gguf-lora", tmp_path / "out", model=model)

    halves = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(path).tensors}
    added = 8.0 / 4 * halves[f"{name}.weight.lora_b"] @ halves[f"{name}.weight.lora_a"]
    ours = 2.0 * updates()[layer].b @ updates()[layer].a
    np.testing.assert_allclose(added, permuted(ours.astype(np.float32), heads) if heads else ours, rtol=1e-5, atol=1e-5)


def test_gguf_form_leaves_rows_alone_where_llama_cpp_does(tmp_path: Path) -> None:
    qwen = Model("qwen", TINY_MODELS["qwen2"](tmp_path / "qwen"), fingerprint="q" * 64)
    adapter = adapter_store.load(write_folder(tmp_path / "mine", updates()))

    (path,) = export_adapter(adapter, "gguf-lora", tmp_path / "out", model=qwen)

    halves = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(path).tensors}
    np.testing.assert_array_equal(halves["blk.0.attn_q.weight.lora_b"], updates()[Q0].b)


def test_bfloat16_weights_are_merged_in_float32(adapter: Adapter, model: Model, tmp_path: Path) -> None:
    """0x3FC0 and 0xC010 are 1.5 and -2.25 in bfloat16."""
    header = json.dumps({"a.0.weight": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes.fromhex("c03f10c0"))

    tensors = stored_tensors(tmp_path)

    np.testing.assert_array_equal(tensors["a.0.weight"].read(), [[1.5, -2.25]])
    assert linear_shapes(tensors) == {"a.0": (1, 2)}


def test_a_quantized_model_takes_no_merge(adapter: Adapter, tmp_path: Path) -> None:
    folder = TINY_MODELS["llama"](tmp_path / "quantized")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"bits": 4}}))

    with pytest.raises(ModelError, match="quantized, expected full weights"):
        export_adapter(adapter, "merged", tmp_path / "out", model=Model("q", folder, fingerprint="q"))
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_lists_the_known_ones(adapter: Adapter, model: Model, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'onnx', expected peft, mlx, merged, gguf-lora"):
        export_adapter(adapter, "onnx", tmp_path / "out", model=model)


def test_an_export_overwrites_nothing(adapter: Adapter, model: Model, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()

    with pytest.raises(UsageError, match="expected a new or empty folder"):
        export_adapter(adapter, "peft", tmp_path / "out", model=model)


@pytest.mark.parametrize("form", FORMATS)
def test_an_adapter_of_other_sizes_is_not_exported(form: str, model: Model, tmp_path: Path) -> None:
    made = updates() | {Q0: LoraUpdate(np.ones((4, 32), np.float32), np.ones((64, 4), np.float32), 2.0)}
    adapter = adapter_store.load(write_folder(tmp_path / "mine", made))

    with pytest.raises(AdapterError, match=r"q_proj \(64, 32\), expected \(64, 64\)"):
        export_adapter(adapter, form, tmp_path / "out", model=model)
    assert not (tmp_path / "out").exists()


# ── import ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", ["peft", "mlx"])
def test_what_was_exported_comes_back(adapter: Adapter, model: Model, tmp_path: Path, form: str) -> None:
    export_adapter(adapter, form, tmp_path / "out", model=model)

    imported = import_adapter(str(tmp_path / "out"), tmp_path / "adapters", model=model, name="back")

    assert_same(read_peft(imported.path), updates())
    assert imported.path == tmp_path / "adapters" / "back"
    assert imported.manifest.foreign
    assert adapter_store.load(imported.path, base_fingerprint=model.fingerprint).name == "back"
    with pytest.raises(AdapterError, match=r"trained on base model f+, expected 0+"):
        adapter_store.load(imported.path, base_fingerprint="0" * 64)


def test_a_name_is_made_of_folder_and_content(model: Model, tmp_path: Path) -> None:
    source = write_folder(tmp_path / "theirs", updates())

    first = import_adapter(str(source), tmp_path / "adapters", model=model)

    assert first.name.startswith("theirs-")
    assert len(first.name) == len("theirs-") + 12
    assert import_adapter(str(source), tmp_path / "adapters", model=model) == first
    assert [path.name for path in (tmp_path / "adapters").iterdir()] == [first.name]


def test_two_adapters_of_one_name_are_an_error(model: Model, tmp_path: Path) -> None:
    one, other = write_folder(tmp_path / "one", updates(1)), write_folder(tmp_path / "other", updates(2))
    kept = import_adapter(str(one), tmp_path / "adapters", model=model, name="facts")

    with pytest.raises(AdapterError, match="facts: another adapter has this name"):
        import_adapter(str(other), tmp_path / "adapters", model=model, name="facts")

    assert adapter_store.load(kept.path) == kept


def test_scales_of_their_own_are_kept(model: Model, tmp_path: Path) -> None:
    """rsLoRA: alpha / √r."""
    source = write_folder(tmp_path / "theirs", updates(), use_rslora=True)

    imported = import_adapter(str(source), tmp_path / "adapters", model=model)

    assert {update.scale for update in read_peft(imported.path).values()} == {4.0}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"r": 16}, "gives .* rank 16, but the weights have rank 4"),
        ({"lora_alpha": 0}, "lora_alpha is 0, expected a positive number"),
        ({"init_lora_weights": False, "target_modules": "all-linear"}, "no tensors for .* would start at random"),
    ],
    ids=["rank", "alpha", "random-start"],
)
def test_import_rejects(config: dict[str, Any], message: str, model: Model, tmp_path: Path) -> None:
    source = write_folder(tmp_path / "theirs", updates(), **config)

    with pytest.raises(AdapterError, match=message):
        import_adapter(str(source), tmp_path / "adapters", model=model)
    assert not list((tmp_path / "adapters").glob("*")) if (tmp_path / "adapters").exists() else True


@pytest.mark.parametrize("config", [{"peft_type": "LOHA"}, {"use_dora": True}], ids=["kind", "dora"])
def test_adapter_that_peft_computes_is_kept_as_it_is(config: dict[str, Any], model: Model, tmp_path: Path) -> None:
    source = write_folder(tmp_path / "theirs", updates(), **config)

    imported = import_adapter(str(source), tmp_path / "adapters", model=model, name="theirs")

    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (imported.path / name).read_bytes() == (source / name).read_bytes()
    key, value = next(iter(config.items()))
    assert remark(imported.path) == f"{key} is {value!r}: PEFT itself computes the adapter, exactly and more slowly"


def test_adapter_of_mlx_beyond_lora_is_kept_as_it_is(model: Model, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    write_mlx(tmp_path / "theirs", updates(), num_layers=2)
    path = tmp_path / "theirs" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fine_tune_type": "dora"}))

    imported = import_adapter(str(tmp_path / "theirs"), tmp_path / "adapters", model=model, name="theirs")

    assert sorted(imported.manifest.files) == ["adapter_config.json", "adapters.safetensors"]
    assert remark(imported.path).startswith("fine_tune_type is 'dora': mlx-lm itself computes the adapter")
    with pytest.raises(
        AdapterError, match=r"expected --engram-backend=mlx, .*mlx_lm.fuse --model MODEL --adapter-path"
    ):
        read_updates(imported.path)


def test_layers_the_model_does_not_have_are_named(model: Model, tmp_path: Path) -> None:
    made = {"model.layers.0.self_attn.qkv_proj": updates()[Q0]}

    with pytest.raises(AdapterError, match=r"qkv_proj, which this model has not; its linear layers are .*q_proj"):
        import_adapter(str(write_folder(tmp_path / "theirs", made)), tmp_path / "adapters", model=model)


def test_a_pickle_is_named_and_never_loaded(model: Model, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "adapter_model.bin").write_bytes(b"\x80\x04")

    with pytest.raises(AdapterError, match=r"adapter_model.bin is never loaded: only safetensors"):
        import_adapter(str(tmp_path / "theirs"), tmp_path / "adapters", model=model)


def test_a_cut_file_is_named(model: Model, tmp_path: Path) -> None:
    source = write_folder(tmp_path / "theirs", updates())
    weights = source / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])

    with pytest.raises(AdapterError, match=r"adapter_model.safetensors: cut off or damaged"):
        import_adapter(str(source), tmp_path / "adapters", model=model)


def test_a_missing_folder_says_what_is_taken(model: Model, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="no such folder, expected one of PEFT or mlx-lm, or a Hub id"):
        import_adapter(str(tmp_path / "nowhere"), tmp_path / "adapters", model=model)


def test_an_adapter_comes_from_the_hub(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_folder(tmp_path / "cache", updates())
    asked: list[Any] = []

    def snapshot_download(repository: str, **keywords: Any) -> str:
        asked.append((repository, keywords["revision"], keywords["allow_patterns"]))
        return str(source)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)

    imported = import_adapter("somebody/facts@v2", tmp_path / "adapters", model=model)

    assert asked == [("somebody/facts", "v2", ["*.safetensors", "*.json"])]
    assert imported.name.startswith("somebody--facts-")


def test_an_mlx_folder_with_a_rank_of_its_own_is_refused(model: Model, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    write_mlx(tmp_path / "theirs", updates(), num_layers=2)
    path = tmp_path / "theirs" / "adapter_config.json"
    config = json.loads(path.read_text())
    config["lora_parameters"]["rank"] = 8
    path.write_text(json.dumps(config))

    with pytest.raises(AdapterError, match=r"rank 8, but the weights of .* have rank 4"):
        import_adapter(str(tmp_path / "theirs"), tmp_path / "adapters", model=model)


def test_a_quantized_tensor_has_no_floats(tmp_path: Path) -> None:
    save_file({"a.0.weight": np.ones((2, 2), np.int8)}, tmp_path / "model.safetensors")

    with pytest.raises(ModelError, match=r"a.0.weight is I8, expected F32"):
        stored_tensors(tmp_path)["a.0.weight"].read()


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "..", ".hidden", "-x", "a\\b", "a\n", "x" * 201, "~root"])
def test_a_name_that_is_no_folder_beside_the_others_is_refused(name: str, model: Model, tmp_path: Path) -> None:
    write_folder(tmp_path / "mine", updates())

    with pytest.raises(UsageError, match=r"--name: got .*, expected letters, digits"):
        import_adapter(str(tmp_path / "mine"), tmp_path / "adapters", model=model, name=name)
    assert not (tmp_path / "adapters").exists()


def test_a_home_that_there_is_not_is_one_error(model: Model, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="~nosuchuser/x: no such user or no home folder, expected a path"):
        import_adapter("~nosuchuser/x", tmp_path, model=model)


def test_a_file_of_an_adapter_that_is_a_link_out_of_its_folder_is_refused(model: Model, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine", updates())
    (folder / "adapter_config.json").rename(tmp_path / "secret.json")
    (folder / "adapter_config.json").symlink_to(tmp_path / "secret.json")

    with pytest.raises(AdapterError, match=r"a link to .*secret\.json, expected a file inside the folder|not found"):
        import_adapter(str(folder), tmp_path / "adapters", model=model)
