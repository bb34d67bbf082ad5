"""A model and data of your own in an experiment: change `make`, and nothing else.

    python examples/mnist/own.py

Run it again to continue where it was stopped; the report is runs/own/report.html.
"""

import numpy as np

from jaxkd import models, recipes


def make(config):
    """Data, teacher and students: put yours here."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 8)).astype("float32")
    arrays = {"x": x, "label": (x[:, :3] ** 2).argmax(axis=1).astype("int32")}
    part = lambda rows: {name: values[rows] for name, values in arrays.items()}
    splits = recipes.Splits(
        train=part(slice(2000)),
        validation=part(slice(2000, 2500)),
        test=part(slice(2500, None)),
        classes=("first", "second", "third"),
        about="Which of three squares is largest.",
    )
    network = lambda *widths: models.from_linen(
        models.MLP(hidden=widths, classes=3), inputs=("x",)
    )
    ways = recipes.alone_and_distilled("student 8", network(8), config)
    return recipes.Experiment(splits, ("x",), network(64, 64), ways)


if __name__ == "__main__":
    config = recipes.Training(teacher_steps=600, steps=600, learning_rate=5e-3)
    experiment, folder = make(config), "runs/own"
    result = recipes.run_experiment("own", experiment, config, folder, resume=True)
    print(*result.words, sep="\n")
