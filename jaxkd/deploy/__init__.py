"""Deployment: models as files that run without the code that made them."""

from jaxkd.deploy._artefact import Artefact, ArtefactError, export, load

__all__ = ["Artefact", "ArtefactError", "export", "load"]
