"""Recipes: whole experiments as plain functions of a frozen config."""

from jaxkd.recipes._demo import (
    DemoConfig,
    demo,
    evaluate_all,
    make_models,
    make_stages,
    train_seed,
    versions,
)
from jaxkd.recipes._demo_report import DemoResult, explain, gain
from jaxkd.recipes._digits import Digits, augment, hide_labels, load_digits
from jaxkd.recipes._export_run import (
    Exportable,
    export_formats,
    export_run,
    read_exportable,
)
from jaxkd.recipes._folder import FolderError, lock_folder, open_folder, read_config
from jaxkd.recipes._pruning import Cut, Ticket, lottery_ticket, prune_and_distil
from jaxkd.recipes._stages import Runner, Stage, make_stage

__all__ = [
    "Cut",
    "DemoConfig",
    "DemoResult",
    "Digits",
    "Exportable",
    "FolderError",
    "Runner",
    "Stage",
    "Ticket",
    "augment",
    "demo",
    "evaluate_all",
    "explain",
    "export_formats",
    "export_run",
    "gain",
    "hide_labels",
    "load_digits",
    "lock_folder",
    "lottery_ticket",
    "make_models",
    "make_stage",
    "make_stages",
    "open_folder",
    "prune_and_distil",
    "read_config",
    "read_exportable",
    "train_seed",
    "versions",
]
