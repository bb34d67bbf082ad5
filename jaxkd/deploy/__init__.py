"""Deployment: models as files that run without the code that made them."""

from jaxkd.deploy._artefact import Artefact, load
from jaxkd.deploy._bert import read_bert, write_bert
from jaxkd.deploy._card import Card, model_card, write_card
from jaxkd.deploy._export import (
    export,
    export_litert,
    export_onnx,
    export_safetensors,
)
from jaxkd.deploy._folder import ArtefactError
from jaxkd.deploy._measure import Measurement, measure, measure_together, table
from jaxkd.deploy._scores import Quality, evaluate_artefact, score
from jaxkd.deploy._serve import make_app, serve
from jaxkd.deploy._weights import load_weights

__all__ = [
    "Artefact",
    "ArtefactError",
    "Card",
    "Measurement",
    "Quality",
    "evaluate_artefact",
    "export",
    "export_litert",
    "export_onnx",
    "export_safetensors",
    "load",
    "load_weights",
    "make_app",
    "measure",
    "measure_together",
    "model_card",
    "read_bert",
    "score",
    "serve",
    "table",
    "write_bert",
    "write_card",
]
