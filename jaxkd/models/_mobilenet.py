"""Networks of inverted residuals: MobileNetV2 and EfficientNet-Lite0."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
from jax import numpy as jnp
from jaxtyping import Array, Float

from jaxkd._types import Logits
from jaxkd.models._resnet import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    batch_norm,
    conv,
    standardise,
)

# Expansion, channels, blocks, stride of the first of them.
_MOBILENET = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# The same, and the size of the window.
_EFFICIENTNET = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_STEM, _TOP = 32, 1280


class ConvNorm(nn.Module):
    """A convolution and BatchNorm, and ReLU6 where it is wanted.

    Attributes:
        width: number of output channels.
        size: of the window.
        stride: of the convolution.
        groups: of the channels.
        relu: whether ReLU6 follows.
        same: whether padding is TensorFlow's ``"SAME"``, by default torch's.
        epsilon: added to the variance.
    """

    width: int
    size: int = 1
    stride: int = 1
    groups: int = 1
    relu: bool = True
    same: bool = False
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], *, train: bool = False
    ) -> Float[Array, "batch h2 w2 width"]:
        """Returns a feature map."""
        layer = conv(
            self.width,
            self.size,
            stride=self.stride,
            groups=self.groups,
            same=self.same,
            name="conv",
        )
        x = batch_norm(train, "norm", epsilon=self.epsilon)(layer(x))
        return nn.relu6(x) if self.relu else x


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter each channel, project by 1x1; then add the input.

    The input is added where the shape stays.

    Attributes:
        width: number of output channels.
        stride: of the convolution of each channel.
        expansion: how many times as many channels there are inside; 1 for no first
            convolution.
        size: of the window of the convolution of each channel.
        same: see :class:`ConvNorm`.
        epsilon: added to the variance.
    """

    width: int
    stride: int = 1
    expansion: int = 6
    size: int = 3
    same: bool = False
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], *, train: bool = False
    ) -> Float[Array, "batch h2 w2 width"]:
        """Returns a feature map."""
        inner, y = self.expansion * x.shape[-1], x
        layer = functools.partial(ConvNorm, same=self.same, epsilon=self.epsilon)
        if self.expansion > 1:
            y = layer(inner, name="expand")(y, train=train)
        filtered = layer(inner, self.size, self.stride, inner, name="depthwise")
        y = filtered(y, train=train)
        y = layer(self.width, relu=False, name="project")(y, train=train)
        return x + y if x.shape == y.shape else y


class MobileNetV2(nn.Module):
    """MobileNetV2, for ImageNet's or for small images.

    Features: ``stem``, ``block1`` to ``block17`` (linear: there is no ReLU after them),
    ``block2/expand`` and so on (after ReLU6), ``top``, ``pool`` (the mean over the last
    map), ``head`` (the logits).

    Attributes:
        classes: number of classes.
        width: factor of all channels, which are rounded to multiples of 8; those of
            ``top`` are not fewer than 1280.
        small_images: whether the stem and the second stage keep the size, as for
            images of 32x32; by default they halve it.
        dropout: rate before the head.
        mean: of the images' channels, which is subtracted first.
        std: of the images' channels, by which they are divided.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import models, trees
        >>> model = models.from_linen(models.MobileNetV2(1000))
        >>> batch = {"image": jnp.zeros((1, 224, 224, 3))}
        >>> like = jax.eval_shape(model.init, jax.random.key(0), batch)
        >>> trees.count(like.params)
        3504872

    References:
        Sandler et al., `MobileNetV2: Inverted residuals and linear bottlenecks
        <https://arxiv.org/abs/1801.04381>`_, 2018, table 2.
    """

    classes: int
    width: float = 1.0
    small_images: bool = False
    dropout: float = 0.0
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], *, train: bool = False
    ) -> Logits:
        """Returns logits, shape ``[batch, classes]``, of images in ``[0, 1]``."""
        x = standardise(x, self.mean, self.std)
        stride = 1 if self.small_images else 2
        stem = ConvNorm(_channels(_STEM * self.width), 3, stride, name="stem")
        x, number = stem(x, train=train), 0
        for stage, (expansion, channels, blocks, stride) in enumerate(
            _MOBILENET, start=1
        ):
            if stage == 2 and self.small_images:
                stride = 1
            for i in range(blocks):
                number += 1
                block = InvertedResidual(
                    _channels(channels * self.width),
                    1 if i else stride,
                    expansion,
                    name=f"block{number}",
                )
                x = block(x, train=train)
        top = ConvNorm(_channels(_TOP * max(1.0, self.width)), name="top")
        pool = jnp.mean(top(x, train=train), axis=(1, 2))
        self.sow("intermediates", "pool", pool)
        if self.dropout:
            pool = nn.Dropout(self.dropout, deterministic=not train)(pool)
        return nn.Dense(self.classes, name="head")(pool)


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0: windows of 3x3 and 5x5, ReLU6, no squeeze and excitation.

    Features: ``stem``, ``block1`` to ``block16`` (linear), ``top``, ``pool``, ``head``,
    as of :class:`MobileNetV2`. Padding is TensorFlow's, for which it was trained.

    Attributes:
        classes: number of classes.
        dropout: rate before the head.
        mean: of the images' channels, which is subtracted first.
        std: of the images' channels, by which they are divided.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import models, trees
        >>> model = models.from_linen(models.EfficientNetLite0(1000))
        >>> batch = {"image": jnp.zeros((1, 224, 224, 3))}
        >>> like = jax.eval_shape(model.init, jax.random.key(0), batch)
        >>> trees.count(like.params)
        4652008

    References:
        Tan, Le, `EfficientNet: Rethinking model scaling for convolutional neural
        networks <https://arxiv.org/abs/1905.11946>`_, 2019, table 1, without what the
        Lite variant leaves out.
    """

    classes: int
    dropout: float = 0.0
    mean: Sequence[float] = (127 / 255,)
    std: Sequence[float] = (128 / 255,)

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], *, train: bool = False
    ) -> Logits:
        """Returns logits, shape ``[batch, classes]``, of images in ``[0, 1]``."""
        as_trained: dict[str, Any] = {"same": True, "epsilon": 1e-3}
        x = standardise(x, self.mean, self.std)
        x = ConvNorm(_STEM, 3, 2, name="stem", **as_trained)(x, train=train)
        number = 0
        for expansion, channels, blocks, stride, size in _EFFICIENTNET:
            for i in range(blocks):
                number += 1
                block = InvertedResidual(
                    channels,
                    1 if i else stride,
                    expansion,
                    size,
                    name=f"block{number}",
                    **as_trained,
                )
                x = block(x, train=train)
        top = ConvNorm(_TOP, name="top", **as_trained)
        pool = jnp.mean(top(x, train=train), axis=(1, 2))
        self.sow("intermediates", "pool", pool)
        if self.dropout:
            pool = nn.Dropout(self.dropout, deterministic=not train)(pool)
        return nn.Dense(self.classes, name="head")(pool)


def _channels(wanted: float) -> int:
    """The nearest multiple of 8 that is no more than a tenth below."""
    nearest = max(8, int(wanted + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * wanted else nearest + 8
