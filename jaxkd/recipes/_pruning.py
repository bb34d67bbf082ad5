"""Pruning in rounds: tickets that are rewound, models that are cut and distilled."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax import numpy as jnp

from jaxkd import _checks, compress
from jaxkd._types import Params, Tree


class Ticket(NamedTuple):
    """What :func:`lottery_ticket` finds.

    Attributes:
        params: the parameters to begin with, pruned ones at 0.
        masks: true where a weight is kept.
        trained: what they became, trained under these masks.
    """

    params: Params
    masks: Tree
    trained: Params


def lottery_ticket(
    fit: Callable[[Params, Tree], Params],
    params: Params,
    *,
    sparsity: float,
    rounds: int,
    where: str = "kernel$",
    across: bool = False,
) -> Ticket:
    r"""Trains, prunes, rewinds, and again: sparse parameters that train well.

    .. math::
        m_r = \operatorname{top}_{1 - s_r} |m_{r-1} \odot \theta_r|, \quad
        \theta_r = \operatorname{fit}(m_{r-1} \odot \theta_0), \quad
        s_r = 1 - (1 - s)^{r / R}

    and a last training under the last masks. What is pruned never comes back. Give the
    parameters of an early step in place of the initial ones to rewind to it.

    Args:
        fit: ``(params, masks) -> params``, a whole training, the same in each round; it
            must keep pruned weights at zero, as ``keep_sparse(sparsity,
            draw=lambda p, g, s: masks)`` does at the end of an optimizer.
        params: to rewind to, :math:`\theta_0`.
        sparsity: the fraction of zeros in the end, :math:`s`.
        rounds: how often it is pruned, :math:`R`.
        where: a regular expression for the paths of the leaves to prune.
        across: one threshold for all these leaves together.

    Returns:
        A :class:`Ticket`.

    Raises:
        ValueError: if a number is out of range, no path matches, or ``fit`` gives back
            another tree or revives pruned weights.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import recipes
        >>> params = {"kernel": jnp.array([0.1, 0.2, 0.3, 0.4])}
        >>> fit = lambda p, masks: jax.tree.map(lambda x, m: m * (1.0 - x), p, masks)
        >>> ticket = recipes.lottery_ticket(fit, params, sparsity=0.5, rounds=2)
        >>> print(ticket.params["kernel"], ticket.trained["kernel"])
        [0.1 0.2 0.  0. ] [0.9 0.8 0.  0. ]

    References:
        Frankle and Carbin, `The Lottery Ticket Hypothesis: Finding Sparse, Trainable
        Neural Networks <https://arxiv.org/abs/1803.03635>`_, 2019, section 1. Rewinding
        to an early step: Frankle et al., `Linear Mode Connectivity and the Lottery
        Ticket Hypothesis <https://arxiv.org/abs/1912.05671>`_, 2020.
    """
    _checks.check_sparsity(sparsity)
    _checks.check_positive(rounds=rounds)
    masks = compress.magnitude_masks(params, 0.0, where=where)
    for done in range(1, rounds + 1):
        trained = _trained(fit, params, masks)
        level = sparsity if done == rounds else 1 - (1 - sparsity) ** (done / rounds)
        # Below all magnitudes, a pruned weight cannot win even against zeros.
        scores = jax.tree.map(lambda w, m: jnp.where(m, abs(w), -1.0), trained, masks)
        masks = compress.top_masks(scores, level, where=where, across=across)
    trained = _trained(fit, params, masks)
    return Ticket(compress.apply_masks(params, masks), masks, trained)


class Cut(NamedTuple):
    """A model on its way to a smaller one.

    Attributes:
        apply: the function that runs on the variables.
        variables: its values.
        report: of :func:`jaxkd.compress.shrink`; ``None`` for the unpruned model.
    """

    apply: Callable[..., Any]
    variables: Tree
    report: compress.ShrinkReport | None = None


def prune_and_distil(
    model: Cut,
    inputs: Sequence[Any],
    *,
    targets: Sequence[compress.Target],
    score: Callable[[Cut, compress.Groups], compress.Scores],
    distil: Callable[[Cut, Cut], Tree],
    shrink: Callable[..., tuple[Tree, compress.ShrinkReport]] = compress.shrink,
) -> list[Cut]:
    """Cuts a model and distils it from the uncut one, once or in rounds.

    One target is one-shot pruning; several are iterative: units are scored anew on what
    the last round's distillation has made of them, and the teacher is the unpruned
    model in all rounds.

    Args:
        model: the unpruned model: its evaluation mode, and all its values.
        inputs: example inputs of ``apply``, of which the shapes count.
        targets: of the rounds; fractions are of the unpruned model.
        score: ``(model, groups) -> scores``, the importance of units in each group
            which may shrink.
        distil: ``(student, teacher) -> variables``, a whole training of the student.
        shrink: :func:`jaxkd.compress.shrink` or a partial of it with its ``round_to``,
            ``across``, ``rebuild``.

    Returns:
        The distilled model of each round.

    Raises:
        ValueError: if there is no target, one of several is a latency (which belongs
            to one model's variables), or a target cannot be met.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import compress, recipes
        >>> params = {"up": jnp.ones((3, 64)), "down": jnp.ones((64, 2))}
        >>> apply = lambda p, x: jax.nn.relu(x @ p["up"]) @ p["down"]
        >>> rounds = recipes.prune_and_distil(
        ...     recipes.Cut(apply, params),
        ...     [jnp.ones((1, 3))],
        ...     targets=[compress.params(0.5), compress.params(0.25)],
        ...     score=lambda cut, groups: compress.l2_importance(cut.variables, groups),
        ...     distil=lambda student, teacher: student.variables,  # train here
        ... )
        >>> [cut.variables["up"].shape for cut in rounds]
        [(3, 32), (3, 16)]

    References:
        Muralidharan et al., `Compact Language Models via Pruning and Knowledge
        Distillation <https://arxiv.org/abs/2407.14679>`_, 2024, section 3.
    """
    units = [target.unit for target in targets]
    if not units or (len(units) > 1 and "microseconds" in units):
        raise ValueError(
            "`targets` must hold one target or more, and one alone if it is a latency, "
            f"got {units}."
        )
    whole = compress.dependency_groups(model.apply, model.variables, *inputs)
    done, now, groups = [], model, whole
    for target in targets:
        # Of the unpruned model, not of the last round's.
        limit = target.bound(whole)
        variables, report = shrink(
            now.variables,
            groups,
            score(now, groups),
            target=target._replace(limit=limit),
        )
        cut = Cut(report.apply, variables, report)
        now = cut._replace(variables=distil(cut, model))
        done.append(now)
        groups = compress.dependency_groups(now.apply, now.variables, *inputs)
    return done


def _trained(fit: Callable[[Params, Tree], Params], params: Params, masks: Tree) -> Any:
    trained = fit(compress.apply_masks(params, masks), masks)
    compress.check_masks(trained, masks)
    revived = jax.tree.map(lambda w, m: jnp.any((w != 0) & ~m), trained, masks)
    if any(map(bool, jax.tree.leaves(revived))):
        raise ValueError(
            "`fit` revives pruned weights: let `compress.keep_sparse(sparsity, "
            "draw=lambda p, g, s: masks)` be the last link of its optimizer."
        )
    return trained
