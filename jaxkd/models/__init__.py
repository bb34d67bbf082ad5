"""Models as pure functions: the protocol, its adapters and a small zoo."""

from jaxkd.models._equinox import from_equinox
from jaxkd.models._linen import from_linen
from jaxkd.models._nnx import from_nnx
from jaxkd.models._protocol import (
    ALL_FEATURES,
    Apply,
    Model,
    Out,
    Variables,
    from_function,
    list_features,
)
from jaxkd.models._zoo import CNN, MLP, ConvBlock

__all__ = [
    "ALL_FEATURES",
    "CNN",
    "MLP",
    "Apply",
    "ConvBlock",
    "Model",
    "Out",
    "Variables",
    "from_equinox",
    "from_function",
    "from_linen",
    "from_nnx",
    "list_features",
]
