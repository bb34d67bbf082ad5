"""BERT in Flax Linen, as its published weights need it."""

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxkd._types import Logits, Tree
from jaxkd.models._protocol import Variables

States = Float[Array, "batch length width"]


class BertEmbed(nn.Module):
    """The sum of the embeddings of token, place and type, after LayerNorm.

    Features: ``tokens``, ``positions``, ``types``, ``norm``.

    Attributes:
        vocabulary: number of token ids.
        width: of the embeddings.
        max_length: the longest sequence.
        types: number of token types, of which all tokens have the first; 0 for none.
        dropout: rate of the sum.
        eps: of LayerNorm.
    """

    vocabulary: int
    width: int
    max_length: int
    types: int = 2
    dropout: float = 0.0
    eps: float = 1e-12

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch length"], train: bool = False
    ) -> States:
        """Returns the hidden states before the first block."""
        x = nn.Embed(self.vocabulary, self.width, name="tokens")(tokens)
        places = nn.Embed(self.max_length, self.width, name="positions")
        x = x + places(jnp.arange(tokens.shape[1]))
        if self.types:
            kinds = nn.Embed(self.types, self.width, name="types")
            x = x + kinds(jnp.zeros(1, jnp.int32))
        x = nn.LayerNorm(self.eps, name="norm")(x)
        return nn.Dropout(self.dropout, deterministic=not train)(x)


class BertAttention(nn.Module):
    r"""Self-attention: :math:`\mathrm{softmax}(q k^T / \sqrt{d})\, v`, mixed anew.

    Features: ``query``, ``key``, ``value`` (the vectors of all heads side by side,
    shape ``[batch, length, width]``), ``scores`` (before mask and softmax) and
    ``attention_weights`` (both ``[batch, heads, length, length]``), ``out``.

    Attributes:
        heads: number of attention heads.
        dropout: rate of the weights.
    """

    heads: int
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, x: States, mask: Bool[Array, "batch length"], train: bool = False
    ) -> States:
        """Returns what each token takes from the others."""
        batch, length, width = x.shape
        q, k, v = (
            nn.Dense(width, name=name)(x).reshape(batch, length, self.heads, -1)
            for name in ("query", "key", "value")
        )
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / jnp.sqrt(q.shape[-1])
        self.sow("intermediates", "scores", scores)
        least = jnp.finfo(scores.dtype).min
        weights = jax.nn.softmax(jnp.where(mask[:, None, None], scores, least))
        self.sow("intermediates", "attention_weights", weights)
        weights = nn.Dropout(self.dropout, deterministic=not train)(weights)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape)
        return nn.Dense(width, name="out")(mixed)


class BertBlock(nn.Module):
    """Self-attention and a feed-forward layer, LayerNorm after each residual.

    Features: those of :class:`BertAttention` under ``attention/``, ``norm1``, ``up``
    (before the GELU), ``down``, ``norm2``.

    Attributes:
        heads: number of attention heads.
        hidden: width of the feed-forward layer.
        dropout: rate of the attention and after both layers.
        eps: of LayerNorm.
    """

    heads: int
    hidden: int
    dropout: float = 0.0
    eps: float = 1e-12

    @nn.compact
    def __call__(
        self, x: States, mask: Bool[Array, "batch length"], train: bool = False
    ) -> States:
        """Returns the hidden states after this block."""
        drop = nn.Dropout(self.dropout, deterministic=not train)
        attention = BertAttention(self.heads, self.dropout, name="attention")
        x = x + drop(attention(x, mask, train))
        x = nn.LayerNorm(self.eps, name="norm1")(x)
        y = nn.gelu(nn.Dense(self.hidden, name="up")(x), approximate=False)
        x = x + drop(nn.Dense(x.shape[-1], name="down")(y))
        return nn.LayerNorm(self.eps, name="norm2")(x)


class Bert(nn.Module):
    """BERT, and with ``types=0`` DistilBERT: a sentence encoder or a classifier.

    Use it with ``inputs=("tokens", "attention_mask")``. Features: ``embed`` (the states
    before the first block), ``block1``, ``block2``, ... and what is inside these (see
    :class:`BertBlock`), ``embedding`` (the mean of the last states, of length 1),
    ``pooler`` of the pooling ``"cls"``, ``head`` (the logits).

    ``jaxkd.deploy.read_bert`` makes one of a folder of published weights.

    Attributes:
        vocabulary: number of token ids.
        classes: number of classes; ``None`` for a sentence encoder, whose output is
            ``embedding``, or of the pooling ``"cls"`` what the pooler gives.
        width: of the hidden states.
        depth: number of blocks.
        heads: number of attention heads.
        hidden: width of the feed-forward layers.
        max_length: the longest sequence.
        types: number of token types, of which all tokens have the first; 0 for none, as
            in DistilBERT.
        pooling: what a classifier reads: ``"cls"``, the state of the first token after
            one more layer (tanh; ReLU without types), or ``"mean"``, the mean state.
        dropout: rate, everywhere.
        eps: of LayerNorm.

    References:
        Devlin et al., `BERT: Pre-training of Deep Bidirectional Transformers for
        Language Understanding <https://arxiv.org/abs/1810.04805>`_, 2019, section 3.

        Sanh et al., `DistilBERT, a distilled version of BERT: smaller, faster, cheaper
        and lighter <https://arxiv.org/abs/1910.01108>`_, 2019, section 3.

        Reimers, Gurevych, `Sentence-BERT: Sentence Embeddings using Siamese
        BERT-Networks <https://arxiv.org/abs/1908.10084>`_, 2019, section 3, for the
        mean.
    """

    vocabulary: int
    classes: int | None = None
    width: int = 384
    depth: int = 6
    heads: int = 12
    hidden: int = 1536
    max_length: int = 512
    types: int = 2
    pooling: Literal["cls", "mean"] = "cls"
    dropout: float = 0.1
    eps: float = 1e-12

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        attention_mask: Bool[Array, "batch length"] | None = None,
        *,
        train: bool = False,
    ) -> Logits:
        """Returns logits, ``[batch, classes]``, or embeddings, ``[batch, width]``."""
        if tokens.shape[1] > self.max_length:
            raise ValueError(
                f"a sequence of {tokens.shape[1]} tokens is longer than "
                f"max_length={self.max_length}."
            )
        if attention_mask is None:
            attention_mask = jnp.ones(tokens.shape, bool)
        real = attention_mask.astype(bool)
        embed = BertEmbed(
            self.vocabulary,
            self.width,
            self.max_length,
            self.types,
            self.dropout,
            self.eps,
            name="embed",
        )
        x = embed(tokens, train)
        for i in range(1, self.depth + 1):
            block = BertBlock(
                self.heads, self.hidden, self.dropout, self.eps, name=f"block{i}"
            )
            x = block(x, real, train)
        counts = jnp.maximum(jnp.sum(real, axis=1, keepdims=True), 1)
        mean = jnp.sum(jnp.where(real[..., None], x, 0.0), axis=1) / counts
        squares = jnp.sum(mean**2, axis=-1, keepdims=True)
        embedding = mean * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))
        self.sow("intermediates", "embedding", embedding)
        pooled = mean if self.pooling == "mean" else self._pool(x[:, 0])
        if self.classes is None:
            return embedding if self.pooling == "mean" else pooled
        pooled = nn.Dropout(self.dropout, deterministic=not train)(pooled)
        return nn.Dense(self.classes, name="head")(pooled)

    def _pool(self, first: Float[Array, "batch width"]) -> Float[Array, "batch width"]:
        if not self.types and self.classes is None:
            return first  # DistilBERT's pooler belongs to its classifier
        y = nn.Dense(self.width, name="pooler")(first)
        return jnp.tanh(y) if self.types else nn.relu(y)


def keep_layers(variables: Variables, layers: Sequence[int]) -> Variables:
    """The variables of a shallower transformer, from chosen layers of a deep one.

    Blocks are entries ``block1``, ``block2``, ... of the parameters, as in
    :class:`Transformer` and :class:`Bert`; all else stays. The usual start of a student
    that is to be distilled.

    Args:
        variables: those of the deep model.
        layers: which layers stay, from 0, in their new order, such as those of
            :mod:`jaxkd.losses.layer_maps`.

    Returns:
        Variables of a model as deep as there are ``layers``, of the same arrays.

    Raises:
        ValueError: if there are no layers to keep, or one of them is not there.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import losses, models
        >>> deep, flat = (
        ...     models.from_linen(
        ...         models.Transformer(9, 3, width=8, depth=depth), inputs="tokens"
        ...     )
        ...     for depth in (6, 3)
        ... )
        >>> batch = {"tokens": jnp.ones((1, 4), jnp.int32)}
        >>> teacher = deep.init(jax.random.key(0), batch)
        >>> kept = losses.layer_maps.every_other(3, 6)
        >>> student = models.keep_layers(teacher, kept)
        >>> flat.apply(*student, batch).logits.shape
        (1, 3)

    References:
        Sanh et al., `DistilBERT, a distilled version of BERT: smaller, faster, cheaper
        and lighter <https://arxiv.org/abs/1910.01108>`_, 2019, section 3.
    """
    depth = sum(_is_block(name) for name in variables.params)
    wrong = [layer for layer in layers if not 0 <= layer < depth]
    if wrong or not layers:
        raise ValueError(
            f"`layers` must be one or more of the model's {depth}, from 0, got "
            f"{tuple(layers)}."
        )
    return Variables(*(_keep(tree, layers) for tree in variables))


def _keep(tree: Tree, layers: Sequence[int]) -> Tree:
    kept = {name: x for name, x in tree.items() if not _is_block(name)}
    for i, layer in enumerate(layers, 1):
        if f"block{layer + 1}" in tree:
            kept[f"block{i}"] = tree[f"block{layer + 1}"]
    return kept


def _is_block(name: str) -> bool:
    return name.startswith("block") and name.removeprefix("block").isdigit()
