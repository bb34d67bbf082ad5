"""Models as pure functions: the protocol, its adapters and a small zoo."""

from jaxkd.models._batchnorm import BatchNorm, batch_moments
from jaxkd.models._bert import Bert, BertAttention, BertBlock, BertEmbed, keep_layers
from jaxkd.models._equinox import from_equinox
from jaxkd.models._join import join, join_variables
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
from jaxkd.models._transformer import Transformer, TransformerBlock
from jaxkd.models._wrap import bake, cast, remat
from jaxkd.models._zoo import CNN, MLP, ConvBlock

__all__ = [
    "ALL_FEATURES",
    "CNN",
    "MLP",
    "Apply",
    "BatchNorm",
    "Bert",
    "BertAttention",
    "BertBlock",
    "BertEmbed",
    "ConvBlock",
    "Model",
    "Out",
    "Transformer",
    "TransformerBlock",
    "Variables",
    "bake",
    "batch_moments",
    "cast",
    "from_equinox",
    "from_function",
    "from_linen",
    "from_nnx",
    "join",
    "join_variables",
    "keep_layers",
    "list_features",
    "remat",
]
