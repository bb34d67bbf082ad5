"""Images made of a trained network alone: by inversion, by a generator, of noise."""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import numpy as np
import optax
from jax import numpy as jnp
from jaxtyping import Array, Float

from jaxkd import losses, models
from jaxkd._types import PRNGKey
from jaxkd.models import Model, Out, Variables

Images: TypeAlias = Float[Array, "batch h w c"]
_BATCH = 128
_LATENT = 64


def noise_images(
    number: int, shape: tuple[int, int, int], *, seed: int
) -> dict[str, np.ndarray]:
    """Images of which each pixel is drawn uniformly.

    Args:
        number: how many.
        shape: height, width and channels.
        seed: of the draws.

    Returns:
        ``image``, float32 in ``[0, 1]``.
    """
    rng = np.random.default_rng(seed)
    return {"image": rng.random((number, *shape), np.float32)}


def invert_images(
    model: Model,
    variables: Variables,
    number: int,
    shape: tuple[int, int, int],
    *,
    seed: int,
    steps: int,
) -> dict[str, np.ndarray]:
    r"""Images that a network takes for given classes, and that fit its BatchNorms.

    .. math::
        L(x) = \mathrm{CE}(z(x), y) + 0.01\, \mathrm{TV}(x)
            + \sum_l \lVert \mu_l(x) - \hat\mu_l \rVert_2
            + \lVert \sigma_l^2(x) - \hat\sigma_l^2 \rVert_2

    The classes are drawn, the pixels :math:`x` descend, 128 images together, from
    noise; each step sees them shifted by a pixel or not.

    Args:
        model: the network, :class:`jaxkd.models.CNN` or one whose BatchNorms are called
            ``norm`` and come after a ``conv``.
        variables: its variables.
        number: how many images.
        shape: height, width and channels.
        seed: of the draws.
        steps: of Adam, for each batch.

    Returns:
        ``image``, float32 in ``[0, 1]``.

    References:
        Yin et al., `Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion
        <https://arxiv.org/abs/1912.08795>`_, 2020, section 3.
    """
    tx = optax.adam(0.1)
    blank = {"image": jnp.zeros((1, *shape))}
    classes = model.apply(variables.params, variables.state, blank).logits.shape[-1]
    grad = jax.grad(functools.partial(_inversion_loss, model, variables))

    @jax.jit
    def invert(key: PRNGKey) -> jax.Array:
        start, label_key, shift_key = jax.random.split(key, 3)
        pixels = jax.random.normal(start, (_BATCH, *shape))
        labels = jax.random.randint(label_key, (_BATCH,), 0, classes)

        def step(carry: Any, key: PRNGKey) -> tuple[Any, None]:
            pixels, memory = carry
            shift = jax.random.randint(key, (2,), -1, 2)
            updates, memory = tx.update(grad(pixels, labels, shift), memory)
            return (optax.apply_updates(pixels, updates), memory), None

        keys = jax.random.split(shift_key, steps)
        (pixels, _), _ = jax.lax.scan(step, (pixels, tx.init(pixels)), keys)
        return jax.nn.sigmoid(pixels)

    key = jax.random.key(seed)
    made = [invert(jax.random.fold_in(key, i)) for i in range(-(-number // _BATCH))]
    return {"image": np.concatenate(jax.device_get(made))[:number]}


def _inversion_loss(
    model: Model, variables: Variables, pixels: Images, labels: Any, shift: Any
) -> jax.Array:
    image = jax.nn.sigmoid(pixels)
    image = jnp.roll(image, shift, axis=(1, 2))
    out = model.apply(
        variables.params,
        variables.state,
        {"image": image},
        features=_convolutions(variables),
    )
    total = losses.cross_entropy(out.logits, labels).mean() + _misfit(out, variables)
    rough = [jnp.abs(jnp.diff(image, axis=axis)).sum() for axis in (1, 2)]
    return total + 0.01 * sum(rough) / len(image)


def _convolutions(variables: Variables) -> tuple[str, ...]:
    return tuple(f"{block}/conv" for block in variables.state["batch_stats"])


def _misfit(out: Out, variables: Variables) -> jax.Array:
    """How far a batch is from what the BatchNorms have seen."""
    total = jnp.zeros(())
    for block, layers in variables.state["batch_stats"].items():
        mean, var = models.batch_moments(out.features[f"{block}/conv"])
        for here, seen in (
            (mean, layers["norm"]["mean"]),
            (var, layers["norm"]["var"]),
        ):
            total += optax.safe_norm(here - seen, 1e-8)
    return total


class Generator(nn.Module):
    """From noise to images in ``[0, 1]``, by two convolutions after doublings of size.

    Attributes:
        shape: height and width, multiples of 4, and channels.
        width: channels of the convolutions.
    """

    shape: tuple[int, int, int]
    width: int = 32

    @nn.compact
    def __call__(
        self, noise: Float[Array, "batch latent"], *, train: bool = False
    ) -> Images:
        """Returns images."""
        height, width, channels = self.shape
        norm = functools.partial(nn.BatchNorm, use_running_average=not train)
        x = nn.Dense(height * width // 16 * self.width, name="dense")(noise)
        x = norm(name="norm0")(x.reshape(-1, height // 4, width // 4, self.width))
        for i in (1, 2):
            x = x.repeat(2, axis=1).repeat(2, axis=2)
            x = nn.Conv(self.width, (3, 3), name=f"conv{i}")(x)
            x = nn.leaky_relu(norm(name=f"norm{i}")(x), 0.2)
        x = nn.Conv(channels, (3, 3), name="image")(x)
        return nn.sigmoid(norm(name="norm3")(x))


def generate_images(
    model: Model,
    variables: Variables,
    number: int,
    shape: tuple[int, int, int],
    *,
    seed: int,
    steps: int,
    weight: float = 0.0,
) -> dict[str, np.ndarray]:
    r"""Images of a generator that a network is sure of, evenly over its classes.

    .. math::
        L = \mathrm{CE}(z, \arg\max z) - 0.1\, \overline{\lVert f \rVert_1}
            - 5\, H\bigl(\overline{\mathrm{softmax}(z)}\bigr) + w B

    over batches of the generator's images: one-hot, activation and information-entropy
    losses of DAFL; and, of weight :math:`w`, how far a batch is from what the
    BatchNorms have seen, as in :func:`invert_images`. In DAFL the student learns while
    the generator does, but the generator never looks at it; so here it is trained
    first, and what it makes on its way, from a fifth of the steps on, is kept: the
    student learns from the same changing images.

    Args:
        model: the network, with the feature ``pool``.
        variables: its variables.
        number: how many images to keep.
        shape: height and width, multiples of 4, and channels.
        seed: of the draws.
        steps: updates of the generator, 128 images each.
        weight: :math:`w`; 0 for DAFL as it was published.

    Returns:
        ``image``, float32 in ``[0, 1]``.

    Raises:
        ValueError: if height or width is no multiple of 4, or the steps do not make so
            many images.

    References:
        Chen et al., `Data-Free Learning of Student Networks
        <https://arxiv.org/abs/1904.01186>`_, 2019, section 3.
    """
    first = steps // 5
    if shape[0] % 4 or shape[1] % 4:
        raise ValueError(f"images must be multiples of 4 high and wide, got {shape}.")
    if number > _BATCH * (steps - first):
        raise ValueError(
            f"{steps} steps make {_BATCH * (steps - first):,} images after the first "
            f"fifth, not {number:,}."
        )
    each = -(-number // (steps - first))
    generator = models.from_linen(Generator(shape), inputs=("noise",))
    tx = optax.adam(1e-2)
    improve = _make_improve(generator, model, variables, weight, tx)
    key = jax.random.key(seed)
    start = generator.init(key, {"noise": jnp.zeros((2, _LATENT))})
    state, made = (start, tx.init(start.params)), []
    for step in range(steps):
        state, images = improve(state, jax.random.fold_in(key, step))
        if step >= first:
            made.append(np.asarray(images[:each]))
    found = np.concatenate(made)
    rows = np.linspace(0, len(found) - 1, number).astype(int)
    return {"image": found[rows]}


def _make_improve(
    generator: Model,
    model: Model,
    variables: Variables,
    weight: float,
    tx: optax.GradientTransformation,
) -> Callable[..., Any]:
    def loss(params: Any, state: Any, noise: jax.Array) -> tuple[jax.Array, Any]:
        made = generator.apply(params, state, {"noise": noise}, train=True)
        batch = {"image": made.logits}
        names = ("pool", *(_convolutions(variables) if weight else ()))
        out = model.apply(variables.params, variables.state, batch, features=names)
        total = _generator_loss(out.logits, out.features["pool"])
        if weight:
            total += weight * _misfit(out, variables)
        return total, (made.logits, made.state)

    @jax.jit
    def improve(state: Any, key: PRNGKey) -> tuple[Any, jax.Array]:
        (params, own), memory = state
        noise = jax.random.normal(key, (_BATCH, _LATENT))
        found = jax.grad(loss, has_aux=True)(params, own, noise)
        updates, memory = tx.update(found[0], memory)
        images, own = found[1]
        return (Variables(optax.apply_updates(params, updates), own), memory), images

    return improve


def _generator_loss(logits: jax.Array, pool: jax.Array) -> jax.Array:
    sure = losses.cross_entropy(logits, logits.argmax(axis=-1)).mean()
    mean = jax.nn.softmax(logits).mean(axis=0)
    entropy = -jnp.sum(jax.scipy.special.xlogy(mean, mean))
    return sure - 0.1 * jnp.abs(pool).mean() - 5.0 * entropy
