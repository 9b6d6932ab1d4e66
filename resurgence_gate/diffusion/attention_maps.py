"""Cross-attention maps: how much every pixel attends to every token, softmax(Q K^T / sqrt(d)) (Vaswani et al. 2017).

The maps are computed beside the stock attention, not in its place: the output of the UNet stays the same to the last
bit, whatever kernel computes it.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


def capture_maps(unet: Any) -> dict[str, Tensor]:
    """From now on every forward pass of `unet` leaves its maps [n, heads, pixels, positions] here, by layer."""
    maps: dict[str, Tensor] = {}
    for name, layer in unet.named_modules():
        if name.endswith(".attn2"):
            layer.set_processor(CapturingProcessor(layer.processor, maps, name))
    return maps


def attention_map(attn: Any, hidden: Tensor, context: Tensor) -> Tensor:
    """The map [n, heads, pixels, positions] of `hidden` [n, pixels, c] over `context` [n, positions, width]."""
    query, key = attn.head_to_batch_dim(attn.to_q(hidden)), attn.head_to_batch_dim(attn.to_k(context))
    return attn.get_attention_scores(query, key).unflatten(0, (-1, attn.heads))  # type: ignore[no-any-return]


class CapturingProcessor:
    """Diffusers' attention processor `stock`, which also stores the layer's map under `name`."""

    def __init__(self, stock: Any, maps: dict[str, Tensor], name: str) -> None:
        self.stock, self.maps, self.name = stock, maps, name

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Any:
        """See `diffusers.models.attention_processor.AttnProcessor2_0`."""
        self.maps[self.name] = attention_map(attn, hidden_states, encoder_hidden_states)
        return self.stock(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
