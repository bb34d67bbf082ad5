"""Published weights, by the names that torch gives them."""

import importlib
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxkd import _names
from jaxkd._types import Params
from jaxkd.models._protocol import Variables

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "embedding": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
_SHOWN = 5
_TORCH_SUFFIXES = (".pth", ".pt")


def read_torch_names(
    arrays: Mapping[str, Any],
    like: Variables,
    *,
    names: Callable[[str], str],
) -> Variables:
    """Brings weights under torch's names into the variables of a model in Flax Linen.

    Convolutions are turned from ``[out, in, height, width]`` to ``[height, width, in,
    out]``, dense layers from ``[out, in]`` to ``[in, out]``; the weight of a BatchNorm
    is its ``scale``, and its running mean and variance are the state. Torch's
    ``num_batches_tracked`` is passed over.

    Args:
        arrays: by name, as in a ``state_dict``, but NumPy's; or an open ``.npz``.
        like: variables of the model, or their shapes from ``jax.eval_shape``.
        names: from the path of one of our layers, ``"stage1/block1/conv1"``, to torch's
            name of it, such as :func:`resnet_torch_name`.

    Returns:
        Variables of the shapes and dtypes of ``like``.

    Raises:
        KeyError: if arrays are missing, or left over; the message names them.
        ValueError: if a shape differs.

    Examples:
        >>> import jax, jax.numpy as jnp, numpy as np
        >>> import flax.linen as nn
        >>> from jaxkd import models
        >>> class Net(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x):
        ...         return nn.Dense(2, name="head")(x)
        >>> model = models.from_linen(Net(), inputs="x")
        >>> like = model.init(jax.random.key(0), {"x": jnp.ones((1, 3))})
        >>> found = {"fc.weight": np.ones((2, 3)), "fc.bias": np.zeros(2)}
        >>> variables = models.read_torch_names(
        ...     found, like, names={"head": "fc"}.__getitem__
        ... )
        >>> variables.params["head"]["kernel"].shape
        (3, 2)
    """
    wanted: dict[str, Any] = {}
    leaves = jax.tree_util.tree_leaves_with_path(like)
    for path, leaf in leaves:
        wanted[_torch_name(path, names)] = leaf
    own = {name for name in arrays if not name.endswith("num_batches_tracked")}
    _check_names(own, set(wanted))
    taken = [
        _turned(name, np.asarray(arrays[name]), _leaf_name(path), leaf)
        for (path, _), (name, leaf) in zip(leaves, wanted.items(), strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(like), taken)


def resnet_torch_name(path: str) -> str:
    """The name of a layer of :class:`ResNet` in the usual code for small images.

    Args:
        path: such as ``"stage1/block2/norm1"``.

    Returns:
        Such as ``"layer1.1.bn1"``; ``head`` is ``"linear"``.
    """
    return _renamed(path, _RESNET)


def mobilenet_torch_name(path: str) -> str:
    """The name of a layer of :class:`MobileNetV2` in torchvision.

    Args:
        path: such as ``"block2/expand/conv"``.

    Returns:
        Such as ``"features.2.conv.0.0"``; ``head`` is ``"classifier.1"``.
    """
    return _renamed(path, _MOBILENET)


def efficientnet_torch_name(path: str) -> str:
    """The name of a layer of :class:`EfficientNetLite0` in its package.

    Args:
        path: such as ``"block2/expand/conv"``.

    Returns:
        Such as ``"_blocks.1._expand_conv"``; ``head`` is ``"_fc"``.
    """
    return _renamed(path, _EFFICIENTNET)


def load_torch_file(file: str | pathlib.Path, *, prefix: str = "") -> dict[str, Any]:
    """The arrays of a file of weights, by name.

    Args:
        file: an ``.npz``; or a ``.pth`` or ``.pt`` with a ``state_dict``, which needs
            torch, and is read without running anything that is in it.
        prefix: of the names wanted, which is cut off; if none has it, all are
            returned.

    Returns:
        NumPy arrays by torch's names.

    Raises:
        FileNotFoundError: if there is no such file.
        ModuleNotFoundError: if it is torch's, and torch is not installed.
        ValueError: if the name ends in something else.
    """
    file = pathlib.Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}.")
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as found:
            arrays = dict(found)
    elif file.suffix in _TORCH_SUFFIXES:
        arrays = _read_with_torch(file)
    else:
        raise ValueError(f"{file.name} is none of .npz, {', '.join(_TORCH_SUFFIXES)}.")
    own = [name for name in arrays if name.startswith(prefix)]
    return {name.removeprefix(prefix): arrays[name] for name in own or arrays}


def _read_with_torch(file: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        torch: Any = importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"reading {file.name} needs torch: pip install torch, or save its arrays "
            "as an .npz where there is one."
        ) from error
    found = torch.load(file, weights_only=True, map_location="cpu")
    return {name: tensor.numpy() for name, tensor in found.items()}


def _resnet_block(found: re.Match[str]) -> str:
    stage, block, layer = found.groups()
    layer = layer.replace("shortcut_conv", "shortcut.0")
    layer = layer.replace("shortcut_norm", "shortcut.1").replace("norm", "bn")
    return f"layer{stage}.{int(block) - 1}.{layer}"


def _mobilenet_block(found: re.Match[str]) -> str:
    block, layer, part = int(found[1]), found[2], int(found[3] == "norm")
    first = int(block > 1)  # the first block does not expand
    if layer == "project":
        return f"features.{block}.conv.{first + 1 + part}"
    return f"features.{block}.conv.{first if layer == 'depthwise' else 0}.{part}"


def _efficientnet_block(found: re.Match[str]) -> str:
    layer, part = found[2], found[3]
    number = ("expand", "depthwise", "project").index(layer)
    torch = f"_{layer}_conv" if part == "conv" else f"_bn{number}"
    return f"_blocks.{int(found[1]) - 1}.{torch}"


_Rules = Mapping[str, Callable[[re.Match[str]], str]]
_INVERTED = r"block(\d+)/(expand|depthwise|project)/(conv|norm)"
_RESNET: _Rules = {
    "conv": lambda _: "conv1",
    "norm": lambda _: "bn1",
    "head": lambda _: "linear",
    r"stage(\d+)/block(\d+)/(\w+)": _resnet_block,
}
_MOBILENET: _Rules = {
    "stem/(conv|norm)": lambda found: f"features.0.{int(found[1] == 'norm')}",
    "top/(conv|norm)": lambda found: f"features.18.{int(found[1] == 'norm')}",
    "head": lambda _: "classifier.1",
    _INVERTED: _mobilenet_block,
}
_EFFICIENTNET: _Rules = {
    "stem/conv": lambda _: "_conv_stem",
    "stem/norm": lambda _: "_bn0",
    "top/conv": lambda _: "_conv_head",
    "top/norm": lambda _: "_bn1",
    "head": lambda _: "_fc",
    _INVERTED: _efficientnet_block,
}


def _renamed(path: str, rules: _Rules) -> str:
    for pattern, rename in rules.items():
        found = re.fullmatch(pattern, path)
        if found:
            return rename(found)
    raise KeyError(f"torch has no name for a layer {path!r}.")


def _keys(path: Any) -> list[str]:
    """Of a leaf's path, what comes below the collection."""
    return [str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey)]


def _leaf_name(path: Any) -> str:
    return _keys(path)[-1]


def _torch_name(path: Any, names: Callable[[str], str]) -> str:
    keys = _keys(path)
    if keys[0] == "batch_stats":
        keys = keys[1:]
    if keys[-1] not in _LEAVES:
        raise KeyError(
            f"{'/'.join(keys)} has no name in torch; known are {', '.join(_LEAVES)}."
        )
    return f"{names('/'.join(keys[:-1]))}.{_LEAVES[keys[-1]]}"


def _check_names(found: set[str], wanted: set[str]) -> None:
    missing, extra = sorted(wanted - found), sorted(found - wanted)
    if missing:
        raise KeyError(
            f"{len(missing)} arrays are missing: {_list(missing)}; "
            f"of {missing[0]}, {_names.nearest(missing[0], sorted(found))}"
        )
    if extra:
        raise KeyError(
            f"{len(extra)} arrays belong to no layer of the model: {_list(extra)}."
        )


def _list(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _turned(name: str, array: np.ndarray, leaf: str, like: Any) -> Params:
    if leaf == "kernel" and array.ndim > 1:
        array = np.moveaxis(array, (0, 1), (-1, -2))
    if array.shape != like.shape:
        raise ValueError(
            f"{name} has shape {array.shape} (as Flax has it), but the model needs "
            f"{like.shape}."
        )
    return jax.numpy.asarray(array, like.dtype)
