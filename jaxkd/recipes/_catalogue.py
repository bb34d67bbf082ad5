"""What `jaxkd list` shows and `jaxkd run` runs."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxkd import _names
from jaxkd.recipes._compression.config import CompressConfig
from jaxkd.recipes._compression.orders import OrdersConfig, orders
from jaxkd.recipes._compression.pipeline import compress
from jaxkd.recipes._compression.saved import config_of
from jaxkd.recipes._demo import DemoConfig, demo
from jaxkd.recipes._experiment.run import run_experiment
from jaxkd.recipes._experiment.value import Experiment, Training
from jaxkd.recipes._folder import FolderError, read_config
from jaxkd.recipes._result import Result
from jaxkd.recipes._settings import from_json
from jaxkd.recipes._systems.cifar import CifarConfig, cifar
from jaxkd.recipes._systems.datafree import DatafreeConfig, datafree
from jaxkd.recipes._systems.embeddings import EmbeddingsConfig, embeddings
from jaxkd.recipes._systems.mnist import MnistConfig, mnist
from jaxkd.recipes._systems.pitch import PitchConfig, pitch
from jaxkd.recipes._systems.policy import PolicyConfig, policy
from jaxkd.recipes._systems.speech import SpeechConfig, speech
from jaxkd.recipes._systems.tabular import TabularConfig, tabular
from jaxkd.recipes._systems.text import TextConfig, text
from jaxkd.recipes._systems.transfer import TransferConfig, transfer


class Recipe(NamedTuple):
    """A whole experiment.

    Attributes:
        summary: what it shows, in a line.
        config: its settings, a frozen dataclass whose values are plain.
        run: ``run(config, folder, *, resume=False, quiet=False, loggers=())``, which
            returns the rows of the report's table as ``rows``.
        experiment: from a config to the models and data, of a recipe that is one.
    """

    summary: str
    config: type[Any]
    run: Callable[..., Any]
    experiment: Callable[[Any], Experiment] | None = None


def _of(
    make: Callable[[Any], Experiment], config: type[Training], summary: str
) -> Recipe:
    """The recipe of an experiment."""

    def run(config: Training, folder: str | pathlib.Path, **options: Any) -> Result:
        return run_experiment(make.__name__, make(config), config, folder, **options)

    return Recipe(summary, config, run, make)


#: The recipes by name.
RECIPES: Mapping[str, Recipe] = {
    "demo": Recipe(
        "distil, prune, quantize and export a digit classifier, in a minute",
        DemoConfig,
        demo,
    ),
    "compress": Recipe(
        "shrink, prune, quantize, factorize, cluster and export in stages, each "
        "measured",
        CompressConfig,
        compress,
    ),
    "orders": Recipe(
        "one trained CNN compressed in different orders of stages, side by side",
        OrdersConfig,
        orders,
    ),
    "mnist": _of(
        mnist,
        MnistConfig,
        "the textbook experiment: 784-1000-10 teaches 784-500-10 and 784-256-10, or a "
        "CNN a smaller one",
    ),
    "cifar": _of(
        cifar,
        CifarConfig,
        "CIFAR-10: ResNet-56 teaches ResNet-20, ResNet-32x4 ResNet-8x4, or ResNet-50 "
        "MobileNetV2, by several methods",
    ),
    "pitch": _of(
        pitch,
        PitchConfig,
        "the published CREPE network, which hears pitch, teaches its tiny form",
    ),
    "speech": _of(
        speech,
        SpeechConfig,
        "spoken digits: log-mel spectrograms, a convolutional teacher, a tiny student",
    ),
    "transfer": _of(
        transfer,
        TransferConfig,
        "a published ImageNet network teaches a small one, on images without labels",
    ),
    "tabular": _of(
        tabular,
        TabularConfig,
        "columns of numbers and words, several tasks at once, each with its weight",
    ),
    "datafree": _of(
        datafree,
        DatafreeConfig,
        "students of a teacher whose data are gone: DeepInversion, a generator, noise",
    ),
    "policy": _of(
        policy,
        PolicyConfig,
        "balancing a pole: a policy trained by reinforcement teaches one of 4 units",
    ),
    "text": _of(
        text,
        TextConfig,
        "sentences: all-MiniLM-L6-v2 fine-tuned teaches students of three and two "
        "layers",
    ),
    "embeddings": _of(
        embeddings,
        EmbeddingsConfig,
        "sentence embeddings: all-MiniLM-L6-v2 teaches students of two layers, without "
        "labels",
    ),
}


def find_recipe(name: str) -> Recipe:
    """A recipe by name.

    Args:
        name: one of :data:`RECIPES`.

    Returns:
        The recipe.

    Raises:
        ValueError: if there is none; the message names the nearest.
    """
    if name not in RECIPES:
        raise ValueError(
            f"there is no recipe {name!r}; {_names.nearest(name, RECIPES)}"
        )
    return RECIPES[name]


def read_run(folder: str | pathlib.Path) -> tuple[str, Any]:
    """Which recipe a folder holds a run of, and its settings.

    Args:
        folder: the run's.

    Returns:
        The recipe's name and the config.

    Raises:
        FileNotFoundError: if the folder holds no run.
        FolderError: if its config is damaged, or it was made by a program of its own.
    """
    name, settings = read_settings(folder)
    if name not in RECIPES:
        raise FolderError(
            f"{folder} holds a run of {name!r}, which is no recipe of jaxkd: resume it "
            "by the program that made it."
        )
    recipe = RECIPES[name]
    try:
        if recipe.config is CompressConfig:
            return name, config_of(settings)
        return name, from_json(recipe.config, settings)
    except (ValueError, TypeError) as error:
        raise FolderError(f"config.json of {folder} is damaged: {error}") from error


def read_settings(folder: str | pathlib.Path) -> tuple[str, dict[str, Any]]:
    """As :func:`read_run`, of any experiment, and whatever its settings are.

    Args:
        folder: the run's.

    Returns:
        The recipe's name and the settings by name.

    Raises:
        FileNotFoundError: if the folder holds no run.
        FolderError: if its config is damaged.
    """
    record = read_config(folder)
    if record is None:
        raise FileNotFoundError(f"{folder} holds no run.")
    settings = dict(record["config"])
    return settings.pop("recipe", "demo"), settings
