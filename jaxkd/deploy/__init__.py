"""Deployment: models as files that run without the code that made them."""

from jaxkd.deploy._artefact import Artefact, load
from jaxkd.deploy._export import (
    export,
    export_litert,
    export_onnx,
    export_safetensors,
)
from jaxkd.deploy._folder import ArtefactError
from jaxkd.deploy._weights import load_weights

__all__ = [
    "Artefact",
    "ArtefactError",
    "export",
    "export_litert",
    "export_onnx",
    "export_safetensors",
    "load",
    "load_weights",
]
