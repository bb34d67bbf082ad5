"""Checkpoints: written by Orbax, verified when read."""

from jaxkd.checkpoint._checkpointer import Checkpointer, Restored
from jaxkd.checkpoint._reading import CheckpointError

__all__ = ["CheckpointError", "Checkpointer", "Restored"]
