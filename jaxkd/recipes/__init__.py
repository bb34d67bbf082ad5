"""Recipes: whole experiments as plain functions of a frozen config."""

from jaxkd.recipes._catalogue import RECIPES, Recipe, find_recipe, read_run
from jaxkd.recipes._compare_runs import compare_runs
from jaxkd.recipes._compression.config import CompressConfig
from jaxkd.recipes._compression.folder import FloorError
from jaxkd.recipes._compression.images import images_task, rebuild_cnn
from jaxkd.recipes._compression.orders import OrdersConfig, orders
from jaxkd.recipes._compression.pipeline import compress
from jaxkd.recipes._compression.report import CompressResult
from jaxkd.recipes._compression.saved import config_of
from jaxkd.recipes._compression.stages import (
    Cluster,
    Distil,
    Export,
    Factorize,
    FineTune,
    Prune,
    Quantize,
    Shrink,
)
from jaxkd.recipes._compression.student import Task
from jaxkd.recipes._demo import (
    DemoConfig,
    demo,
    evaluate_all,
    make_models,
    make_stages,
    train_seed,
    versions,
)
from jaxkd.recipes._demo_report import explain, gain
from jaxkd.recipes._digits import Digits, augment_digits, hide_labels, load_digits
from jaxkd.recipes._experiment.report import Trial
from jaxkd.recipes._experiment.run import run_experiment
from jaxkd.recipes._experiment.value import (
    Experiment,
    Splits,
    Training,
    Way,
    alone_and_distilled,
    kd,
    make_optimizer,
)
from jaxkd.recipes._export_run import export_run, read_exportable
from jaxkd.recipes._exports import Exportable, export_formats
from jaxkd.recipes._folder import FolderError, lock_folder, open_folder, read_config
from jaxkd.recipes._pruning import Cut, Ticket, lottery_ticket, prune_and_distil
from jaxkd.recipes._result import Result
from jaxkd.recipes._settings import change, from_json, to_json
from jaxkd.recipes._sources import damage_images, load_images
from jaxkd.recipes._stages import Runner, Stage, make_stage
from jaxkd.recipes._systems.cifar import CifarConfig, cifar
from jaxkd.recipes._systems.datafree import DatafreeConfig, datafree
from jaxkd.recipes._systems.embeddings import EmbeddingsConfig, embeddings
from jaxkd.recipes._systems.mnist import MnistConfig, mnist
from jaxkd.recipes._systems.pitch import PitchConfig, pitch
from jaxkd.recipes._systems.policy import PolicyConfig, policy
from jaxkd.recipes._systems.ppo import train_policy
from jaxkd.recipes._systems.speech import Listener, SpeechConfig, speech
from jaxkd.recipes._systems.synthesis import (
    Generator,
    generate_images,
    invert_images,
    noise_images,
)
from jaxkd.recipes._systems.tabular import TableNet, TabularConfig, on_part, tabular
from jaxkd.recipes._systems.text import TextConfig, text
from jaxkd.recipes._systems.transfer import TransferConfig, transfer
from jaxkd.recipes._tune import Range, TuneResult, read_range, tune

__all__ = [
    "RECIPES",
    "CifarConfig",
    "Cluster",
    "CompressConfig",
    "CompressResult",
    "Cut",
    "DatafreeConfig",
    "DemoConfig",
    "Digits",
    "Distil",
    "EmbeddingsConfig",
    "Experiment",
    "Export",
    "Exportable",
    "Factorize",
    "FineTune",
    "FloorError",
    "FolderError",
    "Generator",
    "Listener",
    "MnistConfig",
    "OrdersConfig",
    "PitchConfig",
    "PolicyConfig",
    "Prune",
    "Quantize",
    "Range",
    "Recipe",
    "Result",
    "Runner",
    "Shrink",
    "SpeechConfig",
    "Splits",
    "Stage",
    "TableNet",
    "TabularConfig",
    "Task",
    "TextConfig",
    "Ticket",
    "Training",
    "TransferConfig",
    "Trial",
    "TuneResult",
    "Way",
    "alone_and_distilled",
    "augment_digits",
    "change",
    "cifar",
    "compare_runs",
    "compress",
    "config_of",
    "damage_images",
    "datafree",
    "demo",
    "embeddings",
    "evaluate_all",
    "explain",
    "export_formats",
    "export_run",
    "find_recipe",
    "from_json",
    "gain",
    "generate_images",
    "hide_labels",
    "images_task",
    "invert_images",
    "kd",
    "load_digits",
    "load_images",
    "lock_folder",
    "lottery_ticket",
    "make_models",
    "make_optimizer",
    "make_stage",
    "make_stages",
    "mnist",
    "noise_images",
    "on_part",
    "open_folder",
    "orders",
    "pitch",
    "policy",
    "prune_and_distil",
    "read_config",
    "read_exportable",
    "read_range",
    "read_run",
    "rebuild_cnn",
    "run_experiment",
    "speech",
    "tabular",
    "text",
    "to_json",
    "train_policy",
    "train_seed",
    "transfer",
    "tune",
    "versions",
]
