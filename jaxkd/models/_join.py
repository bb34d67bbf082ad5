"""Several models as one."""

from collections.abc import Sequence
from typing import Any

import jax

from jaxkd import _names
from jaxkd._types import Batch, Params, PRNGKey, Tree
from jaxkd.models._protocol import ALL_FEATURES, Model, Out, Variables


def join(**models: Model) -> Model:
    """Several models as one, such as several teachers of one student.

    All see the same batch. The feature ``"block1"`` of the model ``a`` is called
    ``"a/block1"``. See :func:`jaxkd.objectives.follow` and
    :func:`jaxkd.objectives.ensemble` for objectives on them.

    Args:
        **models: the models, by name.

    Returns:
        A :class:`Model` whose logits, parameters and state are dicts by name.

    Raises:
        ValueError: if there are no models.
        KeyError: at the call, for a feature of no model.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import models
        >>> small, big = (models.from_linen(models.MLP((w,), 3)) for w in (4, 16))
        >>> both = models.join(small=small, big=big)
        >>> batch = {"image": jnp.ones((2, 5))}
        >>> out = both.apply(*both.init(jax.random.key(0), batch), batch)
        >>> {name: logits.shape for name, logits in out.logits.items()}
        {'small': (2, 3), 'big': (2, 3)}
    """
    if not models:
        raise ValueError("join needs at least one model: name=model.")

    def init(key: PRNGKey, batch: Batch) -> Variables:
        made = {
            name: model.init(jax.random.fold_in(key, i), batch)
            for i, (name, model) in enumerate(models.items())
        }
        return join_variables(**made)

    def apply(
        params: Params,
        state: Tree,
        batch: Batch,
        *,
        rng: PRNGKey | None = None,
        train: bool = False,
        features: Sequence[str] = (),
        axis_name: str | None = None,
    ) -> Out:
        wanted = _by_model(features, tuple(models))
        outs: dict[str, Out] = {}
        for i, (name, model) in enumerate(models.items()):
            own = None if rng is None else jax.random.fold_in(rng, i)
            outs[name] = model.apply(
                params[name],
                state[name],
                batch,
                rng=own,
                train=train,
                features=wanted[name],
                axis_name=axis_name,
            )
        found = {
            f"{name}/{feature}": value
            for name, out in outs.items()
            for feature, value in out.features.items()
        }
        logits = {name: out.logits for name, out in outs.items()}
        return Out(logits, found, {name: out.state for name, out in outs.items()})

    return Model(init, apply)


def join_variables(**variables: Variables) -> Variables:
    """The variables of :func:`join`, from those of its models.

    Args:
        **variables: each model's, by name.

    Returns:
        Variables whose parameters and state are dicts by name.

    Examples:
        >>> from jaxkd import models
        >>> models.join_variables(a=models.Variables({"w": 1}))
        Variables(params={'a': {'w': 1}}, state={'a': {}})
    """
    return Variables(
        {name: v.params for name, v in variables.items()},
        {name: v.state for name, v in variables.items()},
    )


def _by_model(features: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    if tuple(features) == ALL_FEATURES:
        return dict.fromkeys(names, ALL_FEATURES)
    wanted: dict[str, tuple[str, ...]] = dict.fromkeys(names, ())
    for feature in features:
        name, _, rest = feature.partition("/")
        if name not in wanted or not rest:
            raise KeyError(
                f"the feature {feature!r} must begin with the name of a model and a "
                f"slash; {_names.nearest(name, names)}"
            )
        wanted[name] = (*wanted[name], rest)
    return wanted
