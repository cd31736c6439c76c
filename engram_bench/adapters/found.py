"""What a folder holds where an adapter is asked for: files of PEFT or of mlx-lm, a whole model, or nothing that can be taken."""

from __future__ import annotations

import re
import reprlib
from pathlib import Path

from engram_bench.adapters.peft_rules import applied, beyond_plain, pair_of
from engram_bench.errors import AdapterError

PEFT_CONFIG, PEFT_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""Files of an adapter in PEFT's layout."""
MLX_CONFIG, MLX_WEIGHTS = PEFT_CONFIG, "adapters.safetensors"
"""Files of an adapter of mlx-lm."""
PICKLES = (".bin", ".npz", ".pt", ".pth", ".ckpt")


def is_mlx(folder: Path) -> bool:
    """Whether the adapter in *folder* is one of mlx-lm."""
    return (folder / MLX_WEIGHTS).is_file() and not (folder / PEFT_WEIGHTS).is_file()


def adapter_files(folder: Path) -> tuple[Path, Path]:
    """Configuration and weights of the adapter in *folder*, of PEFT or of mlx-lm.

    Raises:
        AdapterError: The folder holds no such adapter; says what it holds, and the options that take it where there are some.
    """
    if not folder.is_dir():
        msg = f"{folder}: no such folder, expected an adapter of PEFT or mlx-lm"
        raise AdapterError(msg)
    weights = next((folder / name for name in (PEFT_WEIGHTS, MLX_WEIGHTS) if (folder / name).is_file()), None)
    if weights is not None and (folder / PEFT_CONFIG).is_file():
        return folder / PEFT_CONFIG, weights
    if weights is not None:
        msg = f"{folder}: no {PEFT_CONFIG} beside {weights.name}, expected the configuration that was saved with it"
        raise AdapterError(msg)
    pickled = ", ".join(path.name for path in sorted(folder.iterdir()) if path.suffix in PICKLES)
    if (folder / "config.json").is_file() and not (folder / PEFT_CONFIG).is_file():
        msg = (
            f"{folder}: a whole model, expected an adapter; to test it as it is: --engram-model={folder} "
            f"--engram-adapter=none (engram-bench eval --model {folder} --adapter none)"
        )
        raise AdapterError(msg)
    inside = sorted(path.parent.name for path in folder.glob(f"*/{PEFT_CONFIG}"))
    if inside:
        msg = f"{folder}: no adapter itself, expected one of the adapters inside: {', '.join(inside[:8])}"
        raise AdapterError(msg)
    hint = f" ({pickled} is never loaded: only safetensors)" if pickled else ""
    msg = f"{folder}: neither {PEFT_WEIGHTS} nor {MLX_WEIGHTS}{hint}, expected an adapter of PEFT or mlx-lm"
    raise AdapterError(msg)


def beyond_lora(folder: Path) -> str:
    """The first thing that makes the adapter in *folder* more than plain LoRA, y = Wx + s · BAx; empty for plain LoRA.

    Raises:
        AdapterError: There is no adapter of PEFT or mlx-lm, or a file cannot be read.
    """
    from engram_bench.adapters.files import read_config, tensor_shapes  # numpy, which naming an adapter does not need

    config_file, weights = adapter_files(folder)
    config, tensors = read_config(config_file), tensor_shapes(weights)
    if weights.name == PEFT_WEIGHTS:
        return beyond_plain(config, tensors)
    kind = config.get("fine_tune_type", "lora")
    if kind != "lora":
        return f"fine_tune_type is {reprlib.repr(kind)}"
    for name, shape in tensors.items():
        if not re.fullmatch(r".+\.\d+\..+\.lora_[ab]", name) or len(shape) != 2:
            return f"it has a tensor {name[:100]!r}"
    return ""


def needs_peft(folder: Path) -> bool:
    """Whether PEFT itself must compute the adapter in *folder*.

    Raises:
        AdapterError: There is no adapter of PEFT or mlx-lm, or a file cannot be read.
    """
    return bool(beyond_lora(folder)) and not is_mlx(folder)


def only_mlx(folder: Path, reason: str) -> AdapterError:
    """The error for an adapter of mlx-lm that plain LoRA cannot express, with the commands that take it."""
    return AdapterError(
        f"{folder}: {reason}, which is more than plain LoRA: expected --engram-backend=mlx, where mlx-lm itself computes it; "
        f"or fuse it (mlx_lm.fuse --model MODEL --adapter-path {folder} --save-path FOLDER) and test that model: "
        "--engram-model=FOLDER --engram-adapter=none"
    )


def remark(folder: Path) -> str:
    """One line for reports where an adapter is not simply added to the layers that its tensors name; empty for most adapters.

    Raises:
        AdapterError: There is no adapter of PEFT or mlx-lm, or a file cannot be read.
    """
    if reason := beyond_lora(folder):
        library = "mlx-lm" if is_mlx(folder) else "PEFT"
        return f"{reason}: {library} itself computes the adapter, exactly and more slowly"
    if is_mlx(folder):
        return ""
    from engram_bench.adapters.files import read_config, tensor_shapes

    config_file, weights = adapter_files(folder)
    names = sorted({pair[0] for tensor in tensor_shapes(weights) if (pair := pair_of(tensor))})
    left_out = sorted(set(names) - set(applied(config_file, read_config(config_file), names)))
    if not left_out:
        return ""
    return (
        f"{PEFT_CONFIG} names {len(names) - len(left_out)} of the {len(names)} layers in {PEFT_WEIGHTS}: as in PEFT, the "
        f"others ({left_out[0]}, …) are left out"
    )
