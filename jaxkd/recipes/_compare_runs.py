"""Several runs side by side."""

import json
import pathlib
from collections.abc import Sequence

from jaxkd import report
from jaxkd.recipes._catalogue import read_settings


def compare_runs(
    folders: Sequence[str | pathlib.Path], out: str | pathlib.Path
) -> list[report.Row]:
    """Writes one table, one plot and one page of several finished runs.

    Args:
        folders: the runs'. All numbers are compared with the first row of the first.
        out: where ``report.md``, ``report.png`` and ``report.html`` go; made if it is
            not there.

    Returns:
        The rows of the table, each name after that of its run if there are several.

    Raises:
        FileNotFoundError: if a folder holds no run, or none that was finished.
        ValueError: if there are no folders, one comes twice, or a result is damaged.
        FolderError: if a config is damaged.
    """
    places = [pathlib.Path(folder) for folder in folders]
    if not places or len({place.resolve() for place in places}) < len(places):
        raise ValueError("give the folder of each run once, and at least one.")
    runs = [read_settings(place) for place in places]
    results = [report.read_result(place) for place in places]
    names = _names(places)
    rows = [
        row._replace(name=f"{name}: {row.name}" if len(places) > 1 else row.name)
        for name, (found, _) in zip(names, results, strict=True)
        for row in found
    ]
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    picture = out / "report.png"
    title = f"Runs: {', '.join(names)}"
    report.plot_accuracy_against_size(rows, picture, title=title)
    about = [_ABOUT]
    if len({str(settings.get("data", recipe)) for recipe, settings in runs}) > 1:
        about.append(_ABOUT_DATA)
    parts = [report.Part("All models", about, report.compare(rows))]
    parts.append(report.Part("Accuracy against size", picture=picture))
    for name, (recipe, settings), (_, words) in zip(names, runs, results, strict=True):
        parts.append(report.Part(f"{name}, a run of {recipe}", words))
        lines = ((name, json.dumps(value)) for name, value in settings.items())
        table = [("setting", "value"), *lines]
        parts.append(report.Part("", table=table))
    report.write_report(out, title, parts)
    return rows


_ABOUT = (
    "Each ratio is to the first row. Times of different runs were not measured side by "
    "side: trust them only as far as the machine was the same, and idle."
)
_ABOUT_DATA = (
    "These runs may have different data, by their settings: compare accuracies only "
    "where the data are the same."
)


def _names(places: Sequence[pathlib.Path]) -> list[str]:
    """The folders' last names, or as much of the paths as tells them apart."""
    length, names = 0, list[str]()
    while len(set(names)) < len(places):
        length += 1
        names = ["/".join(place.resolve().parts[-length:]) for place in places]
    return names
