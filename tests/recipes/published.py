"""Weights as torch would have saved them."""

import jax
import numpy as np

_WORDS = {"bias": "bias", "mean": "running_mean", "var": "running_var"}


def torch_arrays(model, names, size):
    """Variables of a model, drawn anew, and the same as arrays by torch's names."""
    batch = {"image": np.zeros((1, size, size, 3), np.float32)}
    drawn = jax.eval_shape(model.init, jax.random.key(3), batch)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda x: rng.uniform(0.5, 1.5, x.shape).astype(np.float32), drawn
    )
    arrays = {}
    for tree in (variables.params, variables.state["batch_stats"]):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            *layer, name = (key.key for key in path)
            if name == "kernel":
                leaf = leaf.transpose(3, 2, 0, 1) if leaf.ndim == 4 else leaf.T
            torch = names("/".join(layer))
            arrays[f"{torch}.{_WORDS.get(name, 'weight')}"] = leaf
    return variables, arrays
