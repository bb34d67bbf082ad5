"""``jaxkd compress``."""

import argparse
import json
import pathlib
from typing import Any

_DESCRIPTION = """\
Compresses a model in stages: any sequence of distil, fine_tune, prune, shrink,
quantize, factorize, cluster and export. Each stage is measured; a run that was killed
goes on with --resume. The model is a network for scikit-learn's handwritten digits,
trained first; for your own, call jaxkd.recipes.compress.

A config is JSON: {"floor": 0.95, "stages": [{"stage": "shrink", "keep": 0.25},
{"stage": "quantize", "steps": 200}, {"stage": "export", "formats": ["stablehlo"]}]}.
"""


def add_to(commands: Any) -> None:
    """Adds the command.

    Args:
        commands: the subparsers of ``jaxkd``.
    """
    parser = commands.add_parser(
        "compress",
        help="compress a model in stages, each measured",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        type=pathlib.Path,
        metavar="FILE",
        help="the settings, a file of JSON (default: shrink, quantize, export)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change one setting: floor=0.9, stages.1.steps=100, the first stage being "
        "number 1; can be given many times",
    )
    parser.add_argument(
        "--folder",
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/compress"),
        metavar="DIR",
        help="folder of the run (default: %(default)s)",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="show no progress, only the result"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in DIR, after its last stage and with its settings",
    )
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Runs the command.

    Args:
        parsed: the words of the command line.
    """
    from jaxkd import recipes, report

    folder = parsed.folder
    found = recipes.read_config(folder) if parsed.resume else None
    settings = recipes.CompressConfig().to_json()
    if parsed.config is not None:
        settings = _read(parsed.config)
    elif found is not None:
        settings = recipes.config_of(found["config"]).to_json()
    for words in parsed.set:
        _change(settings, words)
    config = recipes.CompressConfig.from_json(settings)
    result = recipes.compress(config, folder, resume=parsed.resume, quiet=parsed.quiet)
    console = report.make_console()
    report.print_table(console, result.rows)
    console.print(
        f"Report:  {folder}/report.md and {folder}/report.png", soft_wrap=True
    )
    example = f"jaxkd export {folder} --to stablehlo --model {config.names()[0]}"
    console.print(f"Try it:  {example}", soft_wrap=True)


def _read(file: pathlib.Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"{file} does not exist.") from error
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} must hold settings by name, {{...}}.")
    return found


def _change(settings: dict[str, Any], words: str) -> None:
    """Sets ``floor=0.9`` or ``stages.1.steps=100``."""
    name, equals, text = words.partition("=")
    if not equals:
        raise ValueError(f"--set needs NAME=VALUE, got {words!r}.")
    try:
        value = json.loads(text)
    except ValueError:
        value = text  # a word
    *path, last = name.split(".")
    place: Any = settings
    if path:
        place = _stage(settings, path, words)
    place[last] = value


def _stage(settings: dict[str, Any], path: list[str], words: str) -> Any:
    stages = settings.get("stages")
    count = len(stages) if isinstance(stages, list) else 0
    fits = len(path) == 2 and path[0] == "stages" and path[1].isdigit()
    if not fits or not 1 <= int(path[1]) <= count:
        raise ValueError(
            f"--set {words}: name a setting such as floor, or one of a stage such as "
            f"stages.1.steps; there are {count} stages."
        )
    return settings["stages"][int(path[1]) - 1]
