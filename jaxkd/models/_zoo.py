"""A small zoo in Flax Linen, for examples, tests and modest problems."""

from collections.abc import Sequence

import flax.linen as nn
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float

from jaxkd._types import Logits


class MLP(nn.Module):
    """A multilayer perceptron with ReLU; inputs are flattened.

    Features: ``dense1``, ``dense2``, ..., ``head`` (the logits).

    Attributes:
        hidden: widths of the hidden layers.
        classes: number of classes.
        dropout: rate after each hidden layer.
    """

    hidden: Sequence[int]
    classes: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "*batch"], *, train: bool = False) -> Logits:
        """Returns logits, shape ``[batch, classes]``."""
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.hidden, start=1):
            x = nn.relu(nn.Dense(width, name=f"dense{i}")(x))
            if self.dropout:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.classes, name="head")(x)


class ConvBlock(nn.Module):
    """3x3 convolution, BatchNorm, ReLU.

    Attributes:
        width: number of output channels.
    """

    width: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], *, train: bool = False
    ) -> Float[Array, "batch h w width"]:
        """Returns a feature map of the same size."""
        x = nn.Conv(self.width, (3, 3), use_bias=False, name="conv")(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
        return nn.relu(x)


class CNN(nn.Module):
    """A plain convolutional network: blocks with 2x2 max pooling between them.

    Features: ``block1``, ``block2``, ... (before pooling), ``block1/norm`` and so on
    (before the ReLU), ``pool`` (the mean over the last map), ``head`` (the logits).

    Attributes:
        widths: channels of the blocks.
        classes: number of classes.
    """

    widths: Sequence[int]
    classes: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], *, train: bool = False
    ) -> Logits:
        """Returns logits, shape ``[batch, classes]``."""
        for i, width in enumerate(self.widths, start=1):
            if i > 1:
                x = _max_pool_2x2(x)
            x = ConvBlock(width, name=f"block{i}")(x, train=train)
        pool = jnp.mean(x, axis=(1, 2))
        self.sow("intermediates", "pool", pool)
        return nn.Dense(self.classes, name="head")(pool)


def _max_pool_2x2(x: jax.Array) -> jax.Array:
    # Reshape and max: on CPUs much faster than the reduce_window of nn.max_pool.
    b, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    return x.reshape(b, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))
