"""From one model to another that computes the same in another way."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import numpy as jnp

from jaxkd import trees
from jaxkd._types import Batch, Params, PRNGKey, Tree
from jaxkd.models._protocol import Model, Out, Variables


def remat(model: Model, *, policy: Callable[..., bool] | None = None) -> Model:
    """A model whose gradient computes the forward pass anew instead of keeping it.

    Nothing is kept from the forward pass to the gradient but what ``policy`` says, for
    about one more forward pass of time. This takes the model as a whole, so while the
    gradient runs all of it is there again: the peak falls only by what else is alive in
    between. ``nn.remat`` of single blocks, as in ``Transformer(remat=True)``, is what
    makes large students fit.

    Args:
        model: the student; a teacher has no gradient and needs none of this.
        policy: what may be kept all the same, such as
            ``jax.checkpoint_policies.dots_with_no_batch_dims_saveable``.

    Returns:
        A :class:`Model` of the same numbers.

    Examples:
        >>> from jaxkd import models
        >>> student = models.remat(models.from_linen(models.MLP((8,), 3)))
    """

    def apply(
        params: Params,
        state: Tree,
        batch: Batch,
        *,
        rng: PRNGKey | None = None,
        train: bool = False,
        features: Sequence[str] = (),
        **mapped: Any,
    ) -> Out:
        def run(params: Params, state: Tree, batch: Batch, rng: Any) -> Out:
            return model.apply(
                params, state, batch, rng=rng, train=train, features=features, **mapped
            )

        return jax.checkpoint(run, policy=policy)(params, state, dict(batch), rng)

    return Model(model.init, apply)


def cast(model: Model, dtype: Any, *, keep: str | None = None) -> Model:
    """A model that computes in another type; its parameters stay as they are.

    Parameters and floating point inputs are cast in front of the forward pass, logits
    and features back to float32 behind it. The losses of jaxkd compute in float32; but
    logits that were bfloat16 once have lost what tells two close distributions apart,
    so keep the last layer as it is.

    Args:
        model: the model.
        dtype: such as ``jnp.bfloat16``.
        keep: a regular expression for the paths of parameters that are not cast, such
            as ``"^head/"``; a layer of float32 parameters computes in float32.

    Returns:
        A :class:`Model` with the same variables. Its state, such as BatchNorm
        statistics, is not cast.

    Raises:
        ValueError: at the call, if no path matches ``keep``.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import models
        >>> model = models.cast(
        ...     models.from_linen(models.MLP((8,), 3)), jnp.bfloat16, keep="^head/"
        ... )
        >>> batch = {"image": jnp.ones((2, 4))}
        >>> params, state = model.init(jax.random.key(0), batch)
        >>> params["head"]["kernel"].dtype.name
        'float32'
        >>> model.apply(params, state, batch).logits.dtype.name
        'float32'
    """

    def narrow(x: Any) -> Any:
        floating = jnp.issubdtype(jnp.result_type(x), jnp.floating)
        return jnp.asarray(x, dtype) if floating else x

    def widen(x: jax.Array) -> jax.Array:
        small = jnp.issubdtype(x.dtype, jnp.floating) and jnp.finfo(x.dtype).bits < 32
        return x.astype(jnp.float32) if small else x

    def apply(params: Params, state: Tree, batch: Batch, **options: Any) -> Out:
        kept = jax.tree.map(lambda _: False, params)
        if keep is not None:
            kept = trees.mask(params, keep)
        cast_params = jax.tree.map(lambda x, k: x if k else narrow(x), params, kept)
        inputs = {name: narrow(x) for name, x in batch.items()}
        out = model.apply(cast_params, state, inputs, **options)
        logits, features = jax.tree.map(widen, (out.logits, dict(out.features)))
        return Out(logits, features, _like(out.state, state))

    return Model(model.init, apply)


def bake(model: Model, variables: Variables, *, max_bytes: int = 2**26) -> Model:
    """A model whose variables are constants of the program, such as a frozen teacher.

    XLA can then lay weights out and fold them ahead of time, which on CPUs makes a
    small network up to about twice as fast; on accelerators it gains nothing. The
    constants are part of the compiled program: hence the limit.

    Args:
        model: the model.
        variables: its variables.
        max_bytes: the most that they may take.

    Returns:
        A :class:`Model` whose own variables are empty: pass ``Variables({})``.

    Raises:
        ValueError: if they take more.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import models
        >>> model = models.from_linen(models.MLP((8,), 3))
        >>> batch = {"image": jnp.ones((2, 4))}
        >>> fixed = models.bake(model, model.init(jax.random.key(0), batch))
        >>> fixed.apply({}, {}, batch).logits.shape
        (2, 3)
    """
    size = trees.num_bytes(variables)
    if size > max_bytes:
        raise ValueError(
            f"the variables take {size:,} bytes, more than max_bytes={max_bytes:,}: "
            "they would all be copied into the program."
        )
    constants: Variables = jax.device_get(variables)

    def apply(params: Params, state: Tree, batch: Batch, **options: Any) -> Out:
        out = model.apply(constants.params, constants.state, batch, **options)
        return out._replace(state=state)

    return Model(lambda key, batch: Variables({}), apply)


def _like(state: Tree, before: Tree) -> Tree:
    """The state in the types that it had."""
    return jax.tree.map(lambda x, b: x.astype(b.dtype), state, before)
