"""Checkpoints: written by Orbax, verified when read."""

from jaxkd.checkpoint._checkpointer import Checkpointer, CheckpointError, Restored

__all__ = ["CheckpointError", "Checkpointer", "Restored"]
