"""Model cards: what an artefact is, how good, how large, how fast, and who pays."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxkd.deploy._artefact import Artefact
from jaxkd.deploy._folder import (
    ArtefactError,
    check_files,
    read_manifest,
    seal,
    write_whole,
)
from jaxkd.deploy._measure import Measurement
from jaxkd.deploy._scores import Quality

_WORST = 20


class Card(NamedTuple):
    """A model card.

    Attributes:
        content: plain values, as in ``card.json``.
        markdown: the text of ``card.md``.
    """

    content: dict[str, Any]
    markdown: str


def model_card(
    artefact: Artefact,
    scores: Quality,
    *,
    teacher: Quality | None = None,
    fingerprint: str | None = None,
    measurement: Measurement | None = None,
    data: str = "",
    recipe: Mapping[str, Any] | None = None,
) -> Card:
    """Writes up what was evaluated, as a pure function of it.

    Args:
        artefact: the artefact.
        scores: what it scored, of :func:`evaluate_artefact`.
        teacher: what its teacher scored on the same examples.
        fingerprint: the teacher's, such as :func:`jaxkd.trees.digest` of its variables.
        measurement: of :func:`measure`.
        data: on what it was trained and scored, in words.
        recipe: plain values that say how it was made.

    Returns:
        A :class:`Card`; :func:`write_card` puts it beside the artefact.

    Raises:
        ArtefactError: if the recipe is no plain values.
        ValueError: if the teacher was scored on other examples.

    Examples:
        >>> import tempfile
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import deploy, models
        >>> model = models.from_linen(models.MLP(hidden=(8,), classes=3))
        >>> batch = {"image": jnp.eye(4), "label": jnp.array([0, 1, 2, 0])}
        >>> variables = model.init(jax.random.key(0), batch)
        >>> folder = tempfile.mkdtemp() + "/student"
        >>> inputs = {"image": batch["image"]}
        >>> artefact = deploy.export(model, variables, inputs, folder)
        >>> scores, _ = deploy.evaluate_artefact(artefact, [batch])
        >>> card = deploy.model_card(artefact, scores, data="four unit vectors")
        >>> print(card.markdown.splitlines()[0])
        # Model card
        >>> deploy.write_card(folder, card)

    References:
        Mitchell and others, `Model cards for model reporting
        <https://arxiv.org/abs/1810.03993>`_, 2019.
    """
    if teacher is not None and teacher.class_examples != scores.class_examples:
        raise ValueError("`teacher` was scored on other examples than `scores`.")
    manifest = artefact.manifest
    content = {
        "kind": manifest["kind"],
        "numbers": manifest.get("numbers"),
        "versions": {"jaxkd": manifest["jaxkd"], "jax": manifest["jax"]},
        "data": data,
        "recipe": dict(recipe or {}),
        "examples": scores.examples,
        "accuracy": scores.accuracy,
        "calibration_error": scores.calibration_error,
        "agreement": scores.agreement,
        "teacher": _teacher(teacher, fingerprint),
        "classes": _classes(scores, teacher),
        "check": manifest.get("check"),
        "num_bytes": artefact.num_bytes,
        "files": {
            name: found
            for name, found in manifest["files"].items()
            if not name.startswith("card.")
        },
        "speed": _speed(measurement),
    }
    try:
        content = json.loads(json.dumps(content, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ArtefactError(f"`recipe` must be plain values: {error}.") from error
    return Card(content, _markdown(content))


def write_card(directory: str | pathlib.Path, card: Card) -> None:
    """Puts a card beside an artefact, as ``card.json`` and ``card.md``.

    Whenever the process is killed, the artefact stays whole.

    Args:
        directory: the artefact's folder.
        card: of :func:`model_card`, of this artefact.

    Raises:
        FileNotFoundError: if there is no artefact.
        ArtefactError: if the card is of another artefact, or cannot be written.
    """
    folder = pathlib.Path(directory)
    manifest = read_manifest(folder)
    files = {n: f for n, f in manifest["files"].items() if not n.startswith("card.")}
    check_files(folder, {"files": files}, sum(f["bytes"] for f in files.values()))
    if files != card.content["files"]:
        raise ArtefactError(f"the card is of another artefact than {folder}.")
    rest = {n: x for n, x in manifest.items() if n not in ("files", "sha256")}
    try:
        seal(folder, rest, cards=False)  # whole at every moment: without its old card,
        write_whole(folder / "card.json", json.dumps(card.content, indent=2) + "\n")
        write_whole(folder / "card.md", card.markdown)
        seal(folder, rest)  # and with the new one
    except OSError as error:
        raise ArtefactError(f"cannot write to {folder}: {error}.") from error


def _teacher(teacher: Quality | None, fingerprint: str | None) -> dict[str, Any] | None:
    if teacher is None and fingerprint is None:
        return None
    found: dict[str, Any] = {"fingerprint": fingerprint}
    if teacher is not None:
        found["accuracy"] = teacher.accuracy
        found["calibration_error"] = teacher.calibration_error
    return found


def _classes(scores: Quality, teacher: Quality | None) -> list[dict[str, Any]]:
    """One entry a class that has examples; those who lose most come first."""
    found = []
    for i, (count, share) in enumerate(
        zip(scores.class_examples, scores.class_accuracy, strict=True)
    ):
        entry: dict[str, Any] = {"class": i, "examples": count, "accuracy": share}
        if teacher is not None:
            entry["teacher_accuracy"] = teacher.class_accuracy[i]
            entry["change"] = share - teacher.class_accuracy[i]
        if count:
            found.append(entry)
    return sorted(found, key=lambda entry: entry.get("change", entry["accuracy"]))


def _speed(measurement: Measurement | None) -> dict[str, Any] | None:
    if measurement is None:
        return None
    return {
        "cores": measurement.cores,
        "batches": [
            {
                "length": n,
                "seconds": t,
                "examples_per_second": measurement.throughput[n],
            }
            for n, t in measurement.latency.items()
        ],
    }


def _markdown(card: Mapping[str, Any]) -> str:
    runs = " ".join(word for word in (card["kind"], card["numbers"]) if word)
    parts = [
        "# Model card",
        f"Runs as **{runs}**; written by jaxkd {card['versions']['jaxkd']}, jax "
        f"{card['versions']['jax']}.",
        "## How good",
        _table(("", "student", "teacher"), _quality(card)),
        f"Scored on {card['examples']:,} examples. {_plain(card['data'])}".strip(),
        "## Who pays",
        *_payers(card),
        "## How large, how fast",
        f"{card['num_bytes'] / 1000:,.1f} kB on disk.",
        *_times(card["speed"]),
        *_closeness(card["check"]),
        "## How it was made",
        *_making(card),
        "## Files",
        _table(
            ("file", "bytes", "SHA-256"),
            [
                (f"`{name}`", f"{found['bytes']:,}", f"`{found['sha256']}`")
                for name, found in card["files"].items()
            ],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _quality(card: Mapping[str, Any]) -> list[tuple[str, ...]]:
    teacher = card["teacher"] or {}
    rows = []
    for title, name in {
        "accuracy": "accuracy",
        "expected calibration error": "calibration_error",
    }.items():
        rows.append((title, _percent(card[name]), _percent(teacher.get(name))))
    return [*rows, ("agreement with the teacher", _percent(card["agreement"]), "")]


def _payers(card: Mapping[str, Any]) -> list[str]:
    shown = card["classes"][:_WORST]
    rows = [
        (
            str(entry["class"]),
            f"{entry['examples']:,}",
            _percent(entry["accuracy"]),
            _percent(entry.get("teacher_accuracy")),
            f"{100 * entry['change']:+.2f}" if "change" in entry else "",
        )
        for entry in shown
    ]
    header = ("class", "examples", "accuracy", "teacher", "change, points")
    rest = len(card["classes"]) - len(shown)
    more = [f"And {rest} other classes, in `card.json`."] if rest else []
    return ["Those who lose most come first.", _table(header, rows), *more]


def _times(speed: Mapping[str, Any] | None) -> list[str]:
    if speed is None:
        return ["Its speed was not measured."]
    rows = [
        (
            f"{batch['length']:,}",
            f"{1000 * batch['seconds']:.3f}",
            f"{batch['examples_per_second']:,.0f}",
        )
        for batch in speed["batches"]
    ]
    words = f"Medians in a fresh process, {speed['cores']} CPU cores:"
    return [words, _table(("batch", "ms", "examples a second"), rows)]


def _closeness(check: Mapping[str, Any] | None) -> list[str]:
    if check is None:
        return []
    return [
        f"When it was written, it was compared with the model on {check['examples']:,} "
        f"examples: largest difference {check['max_difference']:.3g}, same class on "
        f"{_percent(check['agreement'])}."
    ]


def _making(card: Mapping[str, Any]) -> list[str]:
    fingerprint = (card["teacher"] or {}).get("fingerprint")
    words = f"Its teacher's fingerprint is `{fingerprint}`." if fingerprint else ""
    rows = [
        (_plain(name), _plain(json.dumps(x) if not isinstance(x, str) else x))
        for name, x in card["recipe"].items()
    ]
    recipe = _table(("setting", "value"), rows) if rows else "No recipe was given."
    return [words, recipe] if words else [recipe]


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    ruler = tuple("---:" if i else "---" for i in range(len(header)))
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ruler, *rows))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f} %"


def _plain(text: str) -> str:
    """Text that can break no table."""
    return " ".join(text.split()).replace("|", "\\|")
