"""Residual networks for small images."""

from collections.abc import Sequence

import flax.linen as nn
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float

from jaxkd._types import Logits

#: Mean and standard deviation of ImageNet's channels, of images in ``[0, 1]``.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_SHORTCUTS = ("pad", "projection")


def conv(
    width: int,
    size: int,
    *,
    name: str,
    stride: int = 1,
    groups: int = 1,
    same: bool = False,
) -> nn.Conv:
    """A convolution without a bias.

    Args:
        width: number of output channels.
        size: of its square window.
        name: its name.
        stride: its stride.
        groups: of its channels.
        same: whether it pads as TensorFlow's ``"SAME"``, which depends on the image's
            size; by default as torch's layers, on both sides alike.

    Returns:
        The module.
    """
    return nn.Conv(
        width,
        (size, size),
        strides=stride,
        padding="SAME" if same else (size - 1) // 2,
        feature_group_count=groups,
        use_bias=False,
        kernel_init=nn.initializers.he_normal(),
        name=name,
    )


def batch_norm(train: bool, name: str, *, epsilon: float = 1e-5) -> nn.BatchNorm:
    """BatchNorm that moves its statistics by a tenth.

    Args:
        train: whether it uses the batch's statistics.
        name: its name.
        epsilon: added to the variance.

    Returns:
        The module.
    """
    return nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=epsilon, name=name
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3 and 1x1, beside a shortcut.

    Attributes:
        width: number of output channels.
        stride: of the 3x3 convolution that may shrink the map.
        bottleneck: whether there are three, the first two a quarter as wide.
        shortcut: where shapes differ: ``"pad"`` takes every ``stride``-th pixel and
            adds channels of zeros on both sides, ``"projection"`` is a 1x1 convolution.
    """

    width: int
    stride: int = 1
    bottleneck: bool = False
    shortcut: str = "projection"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], *, train: bool = False
    ) -> Float[Array, "batch h2 w2 width"]:
        """Returns a feature map, after the last ReLU."""
        layers = ((self.width, 3, self.stride), (self.width, 3, 1))
        if self.bottleneck:
            inner = self.width // 4
            layers = ((inner, 1, 1), (inner, 3, self.stride), (self.width, 1, 1))
        y = x
        for i, (width, size, stride) in enumerate(layers, start=1):
            y = conv(width, size, stride=stride, name=f"conv{i}")(y)
            y = batch_norm(train, f"norm{i}")(y)
            y = nn.relu(y) if i < len(layers) else y
        return nn.relu(y + self._beside(x, train))

    def _beside(self, x: jax.Array, train: bool) -> jax.Array:
        missing = self.width - x.shape[-1]
        if not missing and self.stride == 1:
            return x
        if self.shortcut == "projection":
            x = conv(self.width, 1, stride=self.stride, name="shortcut_conv")(x)
            return batch_norm(train, "shortcut_norm")(x)
        if missing < 0:
            raise ValueError(
                f'`shortcut="pad"` cannot lead from {x.shape[-1]} channels to '
                f'{self.width}; widths must not fall, or take "projection".'
            )
        x = x[:, :: self.stride, :: self.stride]
        half = missing // 2
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (half, missing - half)))


class ResidualStage(nn.Module):
    """Residual blocks of one width, the first of which may shrink the map.

    Attributes:
        blocks: how many.
        width: number of output channels.
        stride: of the first block.
        bottleneck: see :class:`ResidualBlock`.
        shortcut: see :class:`ResidualBlock`.
    """

    blocks: int
    width: int
    stride: int = 1
    bottleneck: bool = False
    shortcut: str = "projection"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], *, train: bool = False
    ) -> Float[Array, "batch h2 w2 width"]:
        """Returns a feature map."""
        for i in range(1, self.blocks + 1):
            x = ResidualBlock(
                self.width,
                self.stride if i == 1 else 1,
                self.bottleneck,
                self.shortcut,
                name=f"block{i}",
            )(x, train=train)
        return x


class ResNet(nn.Module):
    """A residual network for small images: 3x3 stem, no pooling after it.

    Each stage but the first halves the map. Features: ``stage1``, ``stage2``, ...
    (after the ReLU), ``stage1/block1`` and so on, ``pool`` (the mean over the last
    map), ``head`` (the logits).

    ============= ============= ====================== ====== ============ ============
    network       ``blocks``    ``widths``             stem   bottleneck   shortcut
    ============= ============= ====================== ====== ============ ============
    ResNet-20     (3, 3, 3)     (16, 32, 64)           16     no           pad
    ResNet-56     (9, 9, 9)     (16, 32, 64)           16     no           pad
    ResNet-8x4    (1, 1, 1)     (64, 128, 256)         32     no           projection
    ResNet-32x4   (5, 5, 5)     (64, 128, 256)         32     no           projection
    ResNet-50     (3, 4, 6, 3)  (256, 512, 1024, 2048) 64     yes          projection
    ============= ============= ====================== ====== ============ ============

    Attributes:
        classes: number of classes.
        blocks: how many residual blocks each stage has.
        widths: channels that each stage returns.
        stem: channels of the first convolution.
        bottleneck: whether blocks are of 1x1, 3x3 and 1x1 convolutions, the first two a
            quarter as wide; by default of two 3x3.
        shortcut: ``"pad"`` or ``"projection"``, see :class:`ResidualBlock`.
        mean: of the images' channels, which is subtracted first.
        std: of the images' channels, by which they are divided.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import models, trees
        >>> resnet20 = models.ResNet(10, blocks=(3, 3, 3), shortcut="pad")
        >>> model = models.from_linen(resnet20)
        >>> batch = {"image": jnp.zeros((1, 32, 32, 3))}
        >>> variables = model.init(jax.random.key(0), batch)
        >>> trees.count(variables.params)
        269722
        >>> out = model.apply(*variables, batch, features=("stage3", "pool"))
        >>> out.features["stage3"].shape, out.features["pool"].shape
        ((1, 8, 8, 64), (1, 64))

    References:
        He, Zhang, Ren, Sun, `Deep residual learning for image recognition
        <https://arxiv.org/abs/1512.03385>`_, 2016: section 4.2 for small images and
        "pad" (option A), table 1 for ResNet-50, whose stem here is that of small
        images. Tian, Krishnan, Isola, `Contrastive representation distillation
        <https://arxiv.org/abs/1910.10699>`_, 2020, for 8x4 and 32x4.
    """

    classes: int
    blocks: Sequence[int]
    widths: Sequence[int] = (16, 32, 64)
    stem: int = 16
    bottleneck: bool = False
    shortcut: str = "projection"
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], *, train: bool = False
    ) -> Logits:
        """Returns logits, shape ``[batch, classes]``, of images in ``[0, 1]``."""
        self._check()
        x = standardise(x, self.mean, self.std)
        x = nn.relu(batch_norm(train, "norm")(conv(self.stem, 3, name="conv")(x)))
        for i, (blocks, width) in enumerate(
            zip(self.blocks, self.widths, strict=True), start=1
        ):
            stride = 1 if i == 1 else 2
            stage = ResidualStage(
                blocks, width, stride, self.bottleneck, self.shortcut, name=f"stage{i}"
            )
            x = stage(x, train=train)
        pool = jnp.mean(x, axis=(1, 2))
        self.sow("intermediates", "pool", pool)
        return nn.Dense(self.classes, name="head")(pool)

    def _check(self) -> None:
        if len(self.blocks) != len(self.widths):
            raise ValueError(
                f"`blocks` has {len(self.blocks)} stages, but `widths` has "
                f"{len(self.widths)}."
            )
        if self.shortcut not in _SHORTCUTS:
            raise ValueError(
                f'`shortcut` must be "pad" or "projection", got {self.shortcut!r}.'
            )


def standardise(x: jax.Array, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
    """``(x - mean) / std`` for each channel.

    Args:
        x: images, ``[batch, height, width, channels]``.
        mean: of each channel, or one for all.
        std: of each channel, or one for all.

    Returns:
        An array of the same shape.

    Raises:
        ValueError: if the numbers of channels differ.
    """
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, x.shape[-1]):
            raise ValueError(
                f"`{name}` has {len(values)} values, but images have {x.shape[-1]} "
                "channels."
            )
    return (x - jnp.asarray(mean, x.dtype)) / jnp.asarray(std, x.dtype)
