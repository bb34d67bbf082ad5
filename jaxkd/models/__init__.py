"""Models as pure functions: the protocol, its adapters and a small zoo."""

from jaxkd.models._batchnorm import BatchNorm, batch_moments
from jaxkd.models._bert import Bert, BertAttention, BertBlock, BertEmbed, keep_layers
from jaxkd.models._crepe import CREPE_BINS, Crepe, crepe_cents, crepe_torch_name
from jaxkd.models._equinox import from_equinox
from jaxkd.models._join import join, join_variables
from jaxkd.models._linen import from_linen
from jaxkd.models._mobilenet import EfficientNetLite0, InvertedResidual, MobileNetV2
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
from jaxkd.models._resnet import ResidualBlock, ResidualStage, ResNet
from jaxkd.models._torch_names import (
    efficientnet_torch_name,
    load_torch_file,
    mobilenet_torch_name,
    read_torch_names,
    resnet_torch_name,
)
from jaxkd.models._transformer import Transformer, TransformerBlock
from jaxkd.models._wrap import bake, cast, remat
from jaxkd.models._zoo import CNN, MLP, ConvBlock

__all__ = [
    "ALL_FEATURES",
    "CNN",
    "CREPE_BINS",
    "MLP",
    "Apply",
    "BatchNorm",
    "Bert",
    "BertAttention",
    "BertBlock",
    "BertEmbed",
    "ConvBlock",
    "Crepe",
    "EfficientNetLite0",
    "InvertedResidual",
    "MobileNetV2",
    "Model",
    "Out",
    "ResNet",
    "ResidualBlock",
    "ResidualStage",
    "Transformer",
    "TransformerBlock",
    "Variables",
    "bake",
    "batch_moments",
    "cast",
    "crepe_cents",
    "crepe_torch_name",
    "efficientnet_torch_name",
    "from_equinox",
    "from_function",
    "from_linen",
    "from_nnx",
    "join",
    "join_variables",
    "keep_layers",
    "list_features",
    "load_torch_file",
    "mobilenet_torch_name",
    "read_torch_names",
    "remat",
    "resnet_torch_name",
]
