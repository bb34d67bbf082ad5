r"""Trees of parameters, addressed by path.

A path is the keys from the root to a leaf, joined by slashes: ``"block1/conv/kernel"``.
The ``/value`` with which Flax NNX ends every path is left out, so that one rule serves
Linen and NNX. Patterns are regular expressions, found anywhere in the path
(:func:`re.search`): ``r"kernel$"``, ``r"^student/head/"``.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jax import numpy as jnp
from jax.experimental import multihost_utils

from jaxkd import _names
from jaxkd._types import Tree

Rules: TypeAlias = Sequence[tuple[str, Any]]


def path_string(path: Sequence[Any]) -> str:
    """Writes a key path as ``"a/b/kernel"``.

    Args:
        path: a key path of :func:`jax.tree_util.tree_flatten_with_path`.

    Returns:
        The keys joined by slashes, without the ``/value`` of Flax NNX.
    """
    if path and path[-1] == jax.tree_util.GetAttrKey("value"):
        path = path[:-1]
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def flatten(tree: Tree) -> dict[str, Any]:
    """Maps each path to its leaf, in the order of the tree.

    Args:
        tree: any tree.

    Returns:
        ``{"a/b/kernel": leaf}``.

    Raises:
        ValueError: if two leaves have one path.

    Examples:
        >>> from jaxkd import trees
        >>> trees.flatten({"dense": {"bias": 1, "kernel": 2}})
        {'dense/bias': 1, 'dense/kernel': 2}
    """
    flat: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = path_string(path)
        if name in flat:
            raise ValueError(f"two leaves of the tree have the path {name!r}.")
        flat[name] = leaf
    return flat


def map_with_path(fn: Callable[[str, Any], Any], tree: Tree) -> Tree:
    """Applies ``fn(path, leaf)`` to each leaf.

    Args:
        fn: maps a path such as ``"a/b/kernel"`` and its leaf to a new leaf.
        tree: any tree.

    Returns:
        A tree of the same structure.
    """
    return jax.tree.map_with_path(lambda path, x: fn(path_string(path), x), tree)


def assign(tree: Tree, rules: Rules, *, default: Any) -> Tree:
    """Gives each leaf the value of the first rule that its path matches.

    Args:
        tree: any tree.
        rules: pairs ``(pattern, value)``; the first match wins.
        default: the value of leaves which no rule matches.

    Returns:
        A tree of the same structure, whose leaves are values of the rules.

    Raises:
        ValueError: if a pattern is no regular expression, or matches no path: a rule
            that does nothing is a misspelt one.

    Examples:
        >>> from jaxkd import trees
        >>> params = {"body": {"kernel": 1, "bias": 2}, "head": {"kernel": 3}}
        >>> rules = [("^head/", "train"), ("kernel$", "frozen")]
        >>> trees.assign(params, rules, default="train")
        {'body': {'bias': 'train', 'kernel': 'frozen'}, 'head': {'kernel': 'train'}}
    """
    compiled = [(_compile(pattern), value) for pattern, value in rules]
    paths = list(flatten(tree))
    for regex, _ in compiled:
        if not any(regex.search(path) for path in paths):
            raise ValueError(
                f"the rule {regex.pattern!r} matches no path: "
                f"{_names.nearest(regex.pattern, paths)}"
            )

    def value_of(path: str, _: Any) -> Any:
        return next((v for regex, v in compiled if regex.search(path)), default)

    return map_with_path(value_of, tree)


def mask(tree: Tree, where: str) -> Tree:
    """Marks the leaves whose path matches a pattern.

    Args:
        tree: any tree.
        where: a regular expression, found anywhere in the path.

    Returns:
        A tree of Python booleans.

    Raises:
        ValueError: if the pattern matches no path.

    Examples:
        >>> from jaxkd import trees
        >>> trees.mask({"bias": 1.0, "kernel": 2.0}, "kernel$")
        {'bias': False, 'kernel': True}
    """
    return assign(tree, [(where, True)], default=False)


def split(tree: Tree, mask: Tree) -> tuple[Tree, Tree]:
    """Splits a tree in two by a mask; the other's leaves become ``None``.

    ``None`` is an empty subtree to jax, optax and orbax, so each half can be
    differentiated, optimised and saved by itself. :func:`merge` undoes it.

    Args:
        tree: any tree.
        mask: a tree of booleans of the same structure.

    Returns:
        The leaves marked true, and the others.

    Examples:
        >>> from jaxkd import trees
        >>> tree = {"bias": 1.0, "kernel": 2.0}
        >>> trees.split(tree, trees.mask(tree, "kernel$"))
        ({'bias': None, 'kernel': 2.0}, {'bias': 1.0, 'kernel': None})
    """
    chosen = jax.tree.map(lambda x, m: x if m else None, tree, mask)
    others = jax.tree.map(lambda x, m: None if m else x, tree, mask)
    return chosen, others


def merge(first: Tree, second: Tree) -> Tree:
    """Puts together what :func:`split` took apart.

    Args:
        first: a tree with ``None`` where the other has a leaf.
        second: the other.

    Returns:
        The whole tree.

    Raises:
        ValueError: if both trees have a leaf at one path.
    """

    def pick(path: Sequence[Any], a: Any, b: Any) -> Any:
        if a is not None and b is not None:
            raise ValueError(f"both trees have a leaf at {path_string(path)!r}.")
        return b if a is None else a

    return jax.tree.map_with_path(pick, first, second, is_leaf=lambda x: x is None)


def count(tree: Tree) -> int:
    """The number of scalars in a tree.

    Args:
        tree: a tree of arrays or shapes.

    Returns:
        The number of scalars.
    """
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree))


def num_bytes(tree: Tree) -> int:
    """The memory that the arrays of a tree take.

    Args:
        tree: a tree of arrays or shapes.

    Returns:
        Bytes.
    """
    # Also of typed PRNG keys, whose dtype numpy does not know.
    return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def sparsity(tree: Tree) -> float:
    """The fraction of scalars that are exactly zero.

    Args:
        tree: a tree of arrays; a typed PRNG key counts as one that is not zero.

    Returns:
        A number in ``[0, 1]``; 0 for an empty tree.
    """
    numbers = (x for x in jax.tree.leaves(tree) if not _is_key(x))
    zeros = sum(int(jnp.sum(x == 0)) for x in numbers)
    return zeros / max(count(tree), 1)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"the rule {pattern!r} is no regular expression: {error}."
        ) from error


def to_numpy(leaf: Any) -> np.ndarray:
    """The bytes of a leaf on the host; a typed PRNG key becomes its key data.

    An array that is spread over processes is gathered: all of them must call this.

    Args:
        leaf: an array, a typed key or a scalar.

    Returns:
        A NumPy array.
    """
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        leaf = multihost_utils.process_allgather(leaf, tiled=True)
    return np.asarray(leaf)


def digest(tree: Tree) -> str:
    """A fingerprint of paths, shapes, dtypes and bytes.

    Args:
        tree: a tree of arrays, typed keys among them.

    Returns:
        32 hexadecimal digits (BLAKE2b, 128 bits): equal for equal trees, on every
        machine; different if any bit, shape, dtype or path differs.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import trees
        >>> a, b = {"w": jnp.zeros(3)}, {"w": jnp.zeros(3).at[0].set(1e-30)}
        >>> trees.digest(a) == trees.digest({"w": jnp.zeros(3)})
        True
        >>> trees.digest(a) == trees.digest(b)
        False
    """
    hasher = hashlib.blake2b(digest_size=16)
    for path, leaf in sorted(flatten(tree).items()):
        array = to_numpy(leaf)
        hasher.update(f"{path}:{array.dtype}:{array.shape};".encode())
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()
