"""Forward pass of Llama-shaped models (Llama, SmolLM2, Qwen2), in four large matrix products per block.

The products of a block are: q, k and v together; o; gate and up together; down. After its attention, the last block
computes only the tokens whose logits are needed. Outside attention, the tokens of a batch form one axis M = B · T.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from engram_bench.adapters.targets import Shapes
from engram_bench.backends.common.packing import Integers, TokenBatch
from engram_bench.backends.torch.kv_cache import DecodingKVCache, PrefillKVCache
from engram_bench.backends.torch.llama.attention import attend, plan_spans
from engram_bench.backends.torch.llama.files import GROUPS, Block, Checkpoint, read_block, read_sizes
from engram_bench.backends.torch.lora import Lora
from engram_bench.backends.torch.network import Writes
from engram_bench.backends.torch.products import Multiply, Presorted


@dataclass(frozen=True, slots=True)
class GroupUpdate:
    """Adapters of one group of a block, in the form that products use."""

    a: Tensor
    """The A matrices of the group, one below the other, (Σr, in)."""
    b: Tensor
    """Scale · B of each layer in its own rows and columns, 0 elsewhere, (out, Σr). One product serves the whole group."""
    parts: tuple[tuple[str, slice, slice], ...]
    """Module path, columns in the output of the group and columns in x Aᵀ of each adapted layer."""


class LlamaNetwork:
    """A Llama-shaped model, as :func:`engram_bench.backends.torch.llama.files.fits` defines the shape.

    Args:
        folder: Hugging Face folder with safetensors weights.
        config: Content of the folder's ``config.json``.
        device: Device of torch that holds the weights.
        multiply: Product with a weight matrix, such as ``functional.linear``.

    Raises:
        BackendError: The weights lack a tensor.
    """

    def __init__(
        self, folder: Path, config: Mapping[str, Any], *, device: str, multiply: Multiply = functional.linear
    ) -> None:
        self.device = device
        self._multiply = multiply
        self.sizes = read_sizes(config)
        self.context_length = self.sizes.context_length
        with Checkpoint(folder, device) as tensor:
            self.blocks = [read_block(tensor, index, multiply) for index in range(self.sizes.num_blocks)]
            self.embedding = tensor("model.embed_tokens.weight")  # (V, E)
            self.final_norm = tensor("model.norm.weight")
            self.head = self.embedding if config.get("tie_word_embeddings") else tensor("lm_head.weight")
        self.shapes: Shapes = {path: shape for path, _, _, shape in self.layers()}
        self._prepared: tuple[Lora, int, list[dict[str, GroupUpdate]]] | None = None

    def logits(
        self,
        batch: TokenBatch,
        rows: Integers,
        *,
        lora: Lora | None,
        cache: PrefillKVCache | DecodingKVCache | None = None,
        writes: Writes | None = None,
    ) -> Tensor:
        """Logits (N, V) after the tokens at *rows* of the flattened batch, without gradients."""
        with torch.no_grad():
            updates = self.prepare(lora)
            shape = batch.ids.shape
            x = self.embedding[torch.from_numpy(batch.ids).to(self.device).flatten()]  # (M, E)
            rope = self.rope(batch)
            spans = plan_spans(batch, self.device)
            kept = torch.from_numpy(rows).to(self.device)
            for index, block in enumerate(self.blocks):
                if writes is not None:
                    x = writes(index, x)
                normed = self.norm(x, block.attention_norm)
                query, key, value = self.split_heads(project(normed, block, updates[index], "qkv"), rope, shape)
                if cache is not None:
                    key, value = cache.update(key, value, index)
                mixed = join_heads(attend(query, key, value, spans)[0])  # (M, H·D)
                if index == len(self.blocks) - 1:
                    x, mixed = x[kept], mixed[kept]
                x = x + project(mixed, block, updates[index], "out")
                gate_up = project(self.norm(x, block.mlp_norm), block, updates[index], "gate_up")
                gate, up = gate_up.chunk(2, -1)
                x = x + project(functional.silu(gate) * up, block, updates[index], "down")
            return self.head_logits(x)  # (N, V)

    def head_logits(self, x: Tensor) -> Tensor:
        """Logits (N, V) of outputs of the last block, (N, E)."""
        return self._multiply(self.norm(x, self.final_norm), self.head, None)

    @property
    def presorts(self) -> bool:
        """Whether weights may be copied into the order of the fastest products."""
        return isinstance(self._multiply, Presorted)

    def spare_memory(self, spares: bool) -> None:
        """Whether to work without the copies that only speed up answers; existing copies are freed at once."""
        if isinstance(self._multiply, Presorted):
            self._multiply.spare_memory(spares)

    def merged(self, lora: Lora) -> Self:
        """A network with the adapter merged into its weights; weights without an adapter are shared with this network."""
        fused = copy.copy(self)
        fused._prepared = None
        fused.blocks = [replace(block, weights=dict(block.weights)) for block in self.blocks]
        for path, (block_index, group), columns, _ in self.layers():
            if path in lora.a:
                weights = fused.blocks[block_index].weights
                if weights[group] is self.blocks[block_index].weights[group]:
                    weights[group] = weights[group].clone()  # type: ignore[index]
                weights[group][columns] += lora.delta(path)
        return fused

    def prepare(self, lora: Lora | None) -> list[dict[str, GroupUpdate]]:
        """Update of each group, per block, kept until the adapter changes; no updates for the bare model."""
        if lora is None:
            return [{} for _ in self.blocks]
        if self._prepared is None or self._prepared[0] is not lora or self._prepared[1] != lora.version:
            self._prepared = (lora, lora.version, prepare_updates(self.layers(), lora, len(self.blocks)))
        return self._prepared[2]

    # ── pieces shared with training ─────────────────────────────────────────────────────────────

    def norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """Root-mean-square norm over the last axis, multiplied by *weight*."""
        return x * (torch.rsqrt(x.square().mean(-1, keepdim=True) + self.sizes.epsilon)) * weight

    def rope(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """Cosines and sines (M, 1, D/2) of the rotary angles."""
        size = self.sizes.head_size
        exponents = torch.arange(0, size, 2, device=self.device, dtype=torch.float32) / size
        positions = torch.from_numpy(batch.positions).to(self.device).flatten().float()
        angles = positions[:, None] * (1.0 / self.sizes.rope_theta**exponents)  # (M, D/2)
        return angles.cos()[:, None], angles.sin()[:, None]

    def split_heads(
        self, joint: Tensor, rope: tuple[Tensor, Tensor], shape: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated and scaled queries (B, K, G, T, D), rotated keys and plain values (B, K, T, D), all from (M, (H + 2K)·D)."""
        sizes, (num_rows, length) = self.sizes, shape
        heads = joint.view(len(joint), -1, sizes.head_size)  # (M, H + 2K, D)
        rotated = rotate(heads[:, : sizes.num_heads + sizes.num_kv_heads], *rope)
        query, key = rotated[:, : sizes.num_heads], rotated[:, sizes.num_heads :]
        value = heads[:, sizes.num_heads + sizes.num_kv_heads :]
        query = query.reshape(num_rows, length, sizes.num_kv_heads, sizes.group, sizes.head_size)
        query = query.permute(0, 2, 3, 1, 4) * sizes.head_size**-0.5
        key, value = (part.reshape(num_rows, length, sizes.num_kv_heads, -1).transpose(1, 2) for part in (key, value))
        return query, key, value

    def layers(self) -> Iterator[tuple[str, tuple[int, str], slice, tuple[int, int]]]:
        """Module path, block and group, rows in the weight of the group and shape (out, in) of each linear layer."""
        kv_size = self.sizes.num_kv_heads * self.sizes.head_size
        for index, block in enumerate(self.blocks):
            for group, names in GROUPS.items():
                outputs, inputs = block.weights[group].shape
                equal = outputs // len(names)
                sizes = {"qkv": [outputs - 2 * kv_size, kv_size, kv_size]}.get(group, [equal] * len(names))
                start = 0
                for name, size in zip(names, sizes, strict=True):
                    yield f"model.layers.{index}.{name}", (index, group), slice(start, start + size), (size, inputs)
                    start += size


def prepare_updates(
    layers: Iterator[tuple[str, tuple[int, str], slice, tuple[int, int]]],
    lora: Lora,
    num_blocks: int,
    dtype: torch.dtype = torch.float32,
) -> list[dict[str, GroupUpdate]]:
    """Update of each group that has an adapter, per block, in *dtype*."""
    found: list[dict[str, list[tuple[str, slice]]]] = [{} for _ in range(num_blocks)]
    widths: dict[tuple[int, str], int] = {}
    for path, (index, group), columns, _ in layers:
        widths[index, group] = columns.stop  # the last layer of a group ends where its output does
        if path in lora.a:
            found[index].setdefault(group, []).append((path, columns))
    return [
        {group: _update(lora, members, widths[index, group], dtype) for group, members in groups.items()}
        for index, groups in enumerate(found)
    ]


def _update(lora: Lora, members: Sequence[tuple[str, slice]], width: int, dtype: torch.dtype) -> GroupUpdate:
    a = torch.cat([lora.a[path].detach() for path, _ in members]).to(dtype)
    b, parts, start = a.new_zeros(width, len(a)), [], 0
    for path, columns in members:
        ranks = slice(start, start + lora.b[path].shape[1])
        b[columns, ranks] = (lora.b[path].detach() * lora.scales[path]).to(dtype)
        parts.append((path, columns, ranks))
        start = ranks.stop
    return GroupUpdate(a, b, tuple(parts))


def project(x: Tensor, block: Block, updates: Mapping[str, GroupUpdate], group: str) -> Tensor:
    """Outputs of the group's linear layers with their adapters, (M, out)."""
    y = block.multiply(x, block.weights[group], block.biases.get(group))
    if group in updates:
        update = updates[group]
        y.addmm_(x @ update.a.T, update.b.T)
    return y


def rotate(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Heads (M, H, D) rotated by the rotary angles. Component i is paired with component i + D/2, as in Llama."""
    first, second = heads.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)


def join_heads(heads: Tensor) -> Tensor:
    """Heads (B, K, G, T, D) as one matrix (M, H·D)."""
    return heads.permute(0, 3, 1, 2, 4).reshape(heads.shape[0] * heads.shape[3], -1)
