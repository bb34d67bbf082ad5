"""``jaxkd evaluate``."""

import pathlib
from typing import Any

from jaxkd.cli._options import say


def add_to(commands: Any) -> None:
    """Adds the command.

    Args:
        commands: the subparsers of ``jaxkd``.
    """
    parser = commands.add_parser(
        "evaluate",
        help="score an exported model on labelled images",
        description="Scores an exported model on the test part of a dataset: accuracy, "
        "calibration, each class, and agreement with a teacher.",
    )
    parser.add_argument(
        "artefact", type=pathlib.Path, metavar="ARTEFACT", help="an exported folder"
    )
    parser.add_argument(
        "--data",
        default="digits",
        metavar="SOURCE",
        help="`digits`, an .npz with test_images and test_labels, or a prepared TFDS "
        "dataset (default: %(default)s)",
    )
    parser.add_argument(
        "--teacher", type=pathlib.Path, metavar="ARTEFACT", help="to compare with"
    )
    parser.set_defaults(run=run)


def run(parsed: Any) -> None:
    """Runs the command.

    Args:
        parsed: the words of the command line.
    """
    from jaxkd import data, deploy, recipes

    splits = recipes.load_images(parsed.data)
    teacher = None if parsed.teacher is None else deploy.load(parsed.teacher)
    artefact = deploy.load(parsed.artefact)
    batches = data.eval_batches(splits.test, batch_size=250)
    found, followed = deploy.evaluate_artefact(artefact, batches, teacher=teacher)
    say(f"{found.examples} examples: {splits.about}")
    say(f"accuracy           {found.accuracy:8.2%}{_beside(followed, 'accuracy')}")
    error = _beside(followed, "calibration_error")
    say(f"calibration error  {found.calibration_error:8.2%}{error}")
    if found.agreement is not None:
        say(f"agreement          {found.agreement:8.2%}")
    for i, share in enumerate(found.class_accuracy):
        name = splits.classes[i] if i < len(splits.classes) else str(i)
        before = (
            "" if followed is None else f"  teacher {followed.class_accuracy[i]:.2%}"
        )
        say(f"class {name:<12} {share:8.2%}{before}")


def _beside(followed: Any, name: str) -> str:
    return "" if followed is None else f"  teacher {getattr(followed, name):.2%}"
