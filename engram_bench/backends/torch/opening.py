"""The network that computes a model folder."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional

from engram_bench.adapters.files import read_config
from engram_bench.backends.torch.llama.files import fits
from engram_bench.backends.torch.llama.gradients import TrainableLlama
from engram_bench.backends.torch.network import Network
from engram_bench.backends.torch.products import fastest
from engram_bench.backends.torch.transformers_network import TransformersNetwork
from engram_bench.errors import AdapterError, BackendError


def open_network(folder: Path, *, device: str, dtype: torch.dtype, lean: bool, presort: bool = True) -> Network:
    """The model of a Hugging Face folder, with its weights loaded.

    Args:
        folder: Folder with ``config.json`` and safetensors weights.
        device: Device of torch.
        dtype: Data type of weights and activations.
        lean: Whether this package's own passes are used where they cover the architecture; otherwise transformers'.
        presort: Whether these passes keep a second copy of the weights in the order of the fastest matrix products.

    Raises:
        BackendError: The config cannot be read, or no implementation here computes the model.
    """
    try:
        config = read_config(folder / "config.json")
    except AdapterError as error:
        raise BackendError(str(error)) from error

    if lean and dtype == torch.float32 and fits(config):
        return TrainableLlama(folder, config, device=device, multiply=fastest(device) if presort else functional.linear)

    return TransformersNetwork(folder, config, device=device, dtype=dtype)
