"""CREPE, a network that hears pitch, in Flax Linen."""

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float

#: Bins of pitch, of 20 cents each.
CREPE_BINS = 360

_FIRST_CENTS = 1997.3794084376191  # of the lowest bin, above 10 Hz
_CENTS = 20.0
_CHANNELS = (32, 4, 4, 4, 8, 16)  # times the capacity
_REACH = 4  # bins on each side of the highest that make the mean


class Crepe(nn.Module):
    """A convolutional network from frames of sound to pitch.

    Six layers of convolution, ReLU, BatchNorm and pooling, and a dense layer. A bin's
    probability is the sigmoid of its logit. Features: ``conv1``, ``norm1``, ...,
    ``head`` (the logits).

    Attributes:
        capacity: 32 for the published "full" model, 4 for "tiny".

    References:
        Kim, Salamon, Li, Bello, `CREPE: a convolutional representation for pitch
        estimation <https://arxiv.org/abs/1802.06182>`_, 2018, section 2 and figure 1.
    """

    capacity: int = 32

    @nn.compact
    def __call__(
        self, frames: Float[Array, "batch 1024"], *, train: bool = False
    ) -> Float[Array, "batch 360"]:
        """Returns logits; each frame of 16 kHz has mean 0 and standard deviation 1."""
        x = frames[..., None]
        for i, channels in enumerate(_CHANNELS, start=1):
            size, stride, sides = (512, 4, (254, 254)) if i == 1 else (64, 1, (31, 32))
            x = nn.Conv(
                channels * self.capacity, (size,), stride, (sides,), name=f"conv{i}"
            )(x)
            x = nn.BatchNorm(
                use_running_average=not train, epsilon=1e-3, name=f"norm{i}"
            )(nn.relu(x))
            x = nn.max_pool(x, (2,), (2,))
        return nn.Dense(CREPE_BINS, name="head")(x.reshape(x.shape[0], -1))


def crepe_torch_name(path: str) -> str:
    """The name of a layer of :class:`Crepe` in torchcrepe.

    Args:
        path: such as ``"norm2"``.

    Returns:
        Such as ``"conv2_BN"``; ``head`` is ``"classifier"``.
    """
    if path == "head":
        return "classifier"
    return path if path.startswith("conv") else f"conv{path.removeprefix('norm')}_BN"


def crepe_cents(
    probabilities: Float[np.ndarray, "batch 360"],
) -> Float[np.ndarray, " batch"]:
    """The pitch that a distribution over bins stands for.

    The mean of the bins around the highest, weighted by their probabilities.

    Args:
        probabilities: of the bins, in ``[0, 1]``.

    Returns:
        Cents above 10 Hz: ``10 * 2 ** (cents / 1200)`` is the frequency in Hz.

    Examples:
        >>> import numpy as np
        >>> from jaxkd import models
        >>> cents = models.crepe_cents(np.eye(360)[[228]])
        >>> print(np.round(10 * 2 ** (cents / 1200)))
        [442.]

    References:
        Kim et al., `CREPE <https://arxiv.org/abs/1802.06182>`_, 2018, section 2.
    """
    probabilities = np.asarray(probabilities)
    bins = np.arange(CREPE_BINS)
    near = np.abs(bins - probabilities.argmax(axis=-1)[:, None]) <= _REACH
    weights = np.where(near, probabilities, 0.0)
    means = (weights @ bins) / np.maximum(weights.sum(axis=-1), 1e-12)
    return _FIRST_CENTS + _CENTS * means
