"""A small transformer encoder in Flax Linen."""

import flax.linen as nn
import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxkd._types import Logits


class TransformerBlock(nn.Module):
    """Self-attention and a feed-forward layer, each after LayerNorm, with residuals.

    Features: ``attention/query``, ``attention/key``, ``attention/value`` (shape
    ``[batch, length, heads, width / heads]``), ``attention/attention_weights`` (shape
    ``[batch, heads, length, length]``).

    Attributes:
        heads: number of attention heads.
        hidden: width of the feed-forward layer.
        dropout: rate after both.
    """

    heads: int
    hidden: int
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length width"],
        mask: Bool[Array, "batch 1 1 length"],
        train: bool = False,
    ) -> Float[Array, "batch length width"]:
        """Returns the hidden states after this block."""
        attention = nn.MultiHeadDotProductAttention(self.heads, name="attention")
        drop = nn.Dropout(self.dropout, deterministic=not train)
        normal = nn.LayerNorm(name="norm1")(x)
        x = x + drop(attention(normal, mask=mask, sow_weights=True))
        y = nn.Dense(self.hidden, name="up")(nn.LayerNorm(name="norm2")(x))
        return x + drop(nn.Dense(x.shape[-1], name="down")(nn.gelu(y)))


class Transformer(nn.Module):
    """A transformer encoder that classifies sequences by the mean of their states.

    Use it with ``inputs=("tokens", "attention_mask")``. Features: ``embed``,
    ``block1``, ``block2``, ... and what is inside these (see
    :class:`TransformerBlock`), ``norm``, ``head`` (the logits).

    Attributes:
        vocabulary: number of token ids.
        classes: number of classes.
        width: of the hidden states.
        depth: number of blocks.
        heads: number of attention heads.
        max_length: the longest sequence.
        dropout: rate after each part of a block.
        remat: whether the gradient computes each block anew instead of keeping what is
            inside it: memory of one block and of the states between, for about one more
            forward pass of time.
    """

    vocabulary: int
    classes: int
    width: int = 128
    depth: int = 2
    heads: int = 4
    max_length: int = 128
    dropout: float = 0.0
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        attention_mask: Bool[Array, "batch length"] | None = None,
        *,
        train: bool = False,
    ) -> Logits:
        """Returns logits, shape ``[batch, classes]``."""
        if tokens.shape[1] > self.max_length:
            raise ValueError(
                f"a sequence of {tokens.shape[1]} tokens is longer than "
                f"max_length={self.max_length}."
            )
        if attention_mask is None:
            attention_mask = jnp.ones(tokens.shape, bool)
        real = attention_mask.astype(bool)
        x = nn.Embed(self.vocabulary, self.width, name="embed")(tokens)
        places = nn.Embed(self.max_length, self.width, name="positions")
        x = x + places(jnp.arange(tokens.shape[1]))
        block = TransformerBlock
        if self.remat:
            block = nn.remat(block, static_argnums=(3,))  # `train`, `self` being 0
        for i in range(1, self.depth + 1):
            of_size = block(self.heads, 4 * self.width, self.dropout, name=f"block{i}")
            x = of_size(x, real[:, None, None, :], train)
        x = nn.LayerNorm(name="norm")(x)
        return nn.Dense(self.classes, name="head")(_mean_of(x, real))


def _mean_of(x: jax.Array, real: jax.Array) -> jax.Array:
    counts = jnp.maximum(jnp.sum(real, axis=1, keepdims=True), 1)
    return jnp.sum(jnp.where(real[..., None], x, 0.0), axis=1) / counts
