"""MobileNetV2: inverted residuals with linear bottlenecks."""

from collections.abc import Sequence

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
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
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
    """

    width: int
    size: int = 1
    stride: int = 1
    groups: int = 1
    relu: bool = True

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
            name="conv",
        )
        x = batch_norm(train, "norm")(layer(x))
        return nn.relu6(x) if self.relu else x


class InvertedResidual(nn.Module):
    """Expand by 1x1, 3x3 on each channel, project by 1x1; then add the input.

    The input is added where the shape stays.

    Attributes:
        width: number of output channels.
        stride: of the 3x3 convolution.
        expansion: how many times as many channels there are inside; 1 for no first
            convolution.
    """

    width: int
    stride: int = 1
    expansion: int = 6

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], *, train: bool = False
    ) -> Float[Array, "batch h2 w2 width"]:
        """Returns a feature map."""
        inner, y = self.expansion * x.shape[-1], x
        if self.expansion > 1:
            y = ConvNorm(inner, name="expand")(y, train=train)
        depthwise = ConvNorm(inner, 3, self.stride, inner, name="depthwise")
        y = depthwise(y, train=train)
        y = ConvNorm(self.width, relu=False, name="project")(y, train=train)
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
        for stage, (expansion, channels, blocks, stride) in enumerate(_STAGES, start=1):
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


def _channels(wanted: float) -> int:
    """The nearest multiple of 8 that is no more than a tenth below."""
    nearest = max(8, int(wanted + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * wanted else nearest + 8
