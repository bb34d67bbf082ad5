"""Two examples in one: mixup and CutMix."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import PRNGKey
from jaxkd.data._arrays import Transform
from jaxkd.data.augment._base import read
from jaxkd.data.augment._crops import box

# (key, image, another, the first one's share) -> image and the share it truly has.
_Mix = Callable[[PRNGKey, Array, Array, Array], tuple[Array, Array]]


def mixup(*, alpha: float = 0.2, classes: int | None = None) -> Transform:
    r"""Blends each image with another of the batch.

    .. math::
        \lambda x_i + (1 - \lambda) x_j, \quad
        \lambda l_i + (1 - \lambda) l_j, \quad \lambda \sim \mathrm{Beta}(\alpha,
        \alpha)

    :math:`j` is a permutation of the batch, :math:`l` a label as probabilities. One
    label no longer says what an image shows, so ``label`` leaves the batch, and
    ``label_probabilities`` ``[batch, classes]``, float32, takes its place if the number
    of classes is given. Distillation needs neither: the teacher sees the same image.

    Args:
        alpha: :math:`\alpha`; 1 draws :math:`\lambda` uniformly, as function matching
            does.
        classes: the number of classes.

    Returns:
        A transform of floating point images.

    Raises:
        ValueError: if ``alpha`` is not positive; when called, if a label is out of
            range.
        KeyError: when called, if ``classes`` is given and there is no ``label``.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxkd.data import augment
        >>> image = jnp.arange(2.0).reshape(2, 1, 1, 1)
        >>> batch = {"image": image, "label": jnp.array([0, 1])}
        >>> mixed = augment.mixup(alpha=1.0, classes=2)(jax.random.key(0), batch)
        >>> print(mixed["label_probabilities"].sum(axis=1))
        [1. 1.]
        >>> share = mixed["label_probabilities"][:, 1]
        >>> bool(jnp.allclose(mixed["image"].ravel(), share))
        True

    References:
        Zhang et al., `mixup: Beyond Empirical Risk Minimization
        <https://arxiv.org/abs/1710.09412>`_, 2017, section 2. Beyer et al., `Knowledge
        distillation: A good teacher is patient and consistent
        <https://arxiv.org/abs/2106.05237>`_, 2021.
    """

    def mix(_: PRNGKey, x: Array, other: Array, share: Array) -> tuple[Array, Array]:
        a, b = x.astype(jnp.float32), other.astype(jnp.float32)
        # Padding may be NaN.
        return jnp.where(share < 1, share * a + (1 - share) * b, a), share

    return _mixing(mix, "mixup", alpha, classes)


def cutmix(*, alpha: float = 1.0, classes: int | None = None) -> Transform:
    r"""Pastes a box of another image of the batch into each.

    The box has the image's proportions and :math:`1 - \lambda` of its area,
    :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)`; its centre is uniform, and what
    is outside the image is cut off. The labels are weighted by the areas that are
    truly there. What becomes of ``label`` is written at :func:`mixup`.

    Args:
        alpha: :math:`\alpha`.
        classes: the number of classes.

    Returns:
        A transform of floating point images.

    Raises:
        ValueError: if ``alpha`` is not positive; when called, if a label is out of
            range.
        KeyError: when called, if ``classes`` is given and there is no ``label``.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxkd.data import augment
        >>> image = jnp.ones((2, 8, 8, 1)) * jnp.arange(2.0).reshape(2, 1, 1, 1)
        >>> batch = {"image": image, "label": jnp.array([0, 1])}
        >>> mixed = augment.cutmix(classes=2)(jax.random.key(0), batch)
        >>> share = mixed["label_probabilities"][:, 1]
        >>> bool(jnp.allclose(mixed["image"].mean((1, 2, 3)), share))
        True

    References:
        Yun et al., `CutMix: Regularization Strategy to Train Strong Classifiers with
        Localizable Features <https://arxiv.org/abs/1905.04899>`_, 2019, section 3.
    """
    return _mixing(_paste, "cutmix", alpha, classes)


def _paste(key: PRNGKey, x: Array, other: Array, share: Array) -> tuple[Array, Array]:
    size = jnp.array(x.shape[:2])
    sides = jnp.round(jnp.sqrt(1 - share) * size).astype(jnp.int32)
    first = jax.random.randint(key, (2,), 0, size) - sides // 2
    inside = box(x, first, first + sides)
    return jnp.where(inside, other, x), 1 - inside.mean()


def _mixing(mix: _Mix, name: str, alpha: float, classes: int | None) -> Transform:
    _checks.check_positive(alpha=alpha)

    @jax.jit
    def run(key: PRNGKey, image: Array, mask: Array) -> tuple[Array, Array, Array]:
        n = len(image)
        order_key, share_key, own_key = jax.random.split(key, 3)
        other = jax.random.permutation(order_key, n)
        share = jax.random.beta(share_key, alpha, alpha, (n,), jnp.float32)
        share = jnp.where(mask[other], share, 1.0)  # padding is mixed into nothing
        keys = jax.random.split(own_key, n)
        mixed, share = jax.vmap(mix)(keys, image, image[other], share)
        return mixed.astype(image.dtype), other, share

    def transform(key: PRNGKey, batch: dict[str, Any]) -> dict[str, Any]:
        image = read(batch, name, "image", "batch, height, width, channels")
        mixed, other, share = run(
            key, image, batch.get("mask", np.ones(len(image), bool))
        )
        result = {**batch, "image": mixed}
        result.pop("label", None)
        if classes is not None:
            label = read(batch, name, "label", "batch", floating=False)
            _checks.check_label_range(label, classes)
            result["label_probabilities"] = _probabilities(label, other, share, classes)
        return result

    return transform


@functools.partial(jax.jit, static_argnums=3)
def _probabilities(label: Array, other: Array, share: Array, classes: int) -> Array:
    own = jax.nn.one_hot(label, classes)
    return share[:, None] * own + (1 - share)[:, None] * own[other]
