"""Writes docs/numerics.md from the table that the golden test runs."""

import jax
from evaluate import HERE, load, value_and_gradients
from numerics_table import DEFECTS, FILES

PAGE = HERE.parents[1] / "docs" / "numerics.md"

HEAD = """\
# Who computes what, and how to get that number from jaxkd

Libraries that give a loss the same name give it other constants: on one input, plain
knowledge distillation is 11.37, 0.57 or 0.71. Each row below is an expression that the
tests evaluate and compare with recorded values of the library, loss and gradient, to
1e-9 in float64 (1e-5 where the library computes in float32) and 1e-5 in float32. The
number of the library is **factor × expression**. This page is generated from the table
that the tests run: `python tests/golden/numerics_page.py`.

In the expressions `T` is the temperature, `B` the number of sequences or examples, `C`
or `V` that of classes, `mask` the positions whose label counts, and `ids`, `values`,
`total` a top-k teacher: the ids of its k most likely classes, their logits, and the
logarithm of the sum of exponentials over all. Features are channels-last, `predicted`
and `generated` are the recorded networks on the student's features.
"""

TITLES = {"methods": "Classifiers", "llm": "Language models"}


def code(text):
    return "`" + " ".join(text.split()).replace("|", "\\|") + "`"


def cell(text):
    return text.replace("|", "\\|")


def rows(file):
    yield f"\n## {TITLES[file]}\n"
    yield "| library | what | factor | jaxkd | why |"
    yield "|---|---|---|---|---|"
    for row in FILES[file][0]:
        yield (
            f"| {row.library} | {cell(row.what)} | {code(row.factor)} "
            f"| {code(row.call)} | {cell(row.why)} |"
        )


def defects():
    yield "\n## What jaxkd does not reproduce: defects of the originals\n"
    yield "| library | case | the defect | its value | jaxkd's | expression |"
    yield "|---|---|---|---|---|---|"
    for defect in DEFECTS:
        case = next(load(HERE, f)[defect.case] for f in FILES if has(f, defect.case))
        with jax.enable_x64(True):
            right, _ = value_and_gradients(
                case, defect.params, defect.right, "1", "float64"
            )
        original = float(case.get("loss_f64", case["loss"]))
        yield (
            f"| {defect.library} | {code(defect.case)} | {cell(defect.reason)} "
            f"| {original:.4g} | {float(right):.4g} | {code(defect.right)} |"
        )


def has(file, case):
    return case in load(HERE, file)


def elsewhere():
    yield "\n## Recorded, and not compared\n"
    yield "| why it is not here | cases |"
    yield "|---|---|"
    reasons = {}
    for _, cases in FILES.values():
        for case, reason in cases.items():
            reasons.setdefault(reason, []).append(case)
    for reason, cases in reasons.items():
        yield f"| {reason} | {', '.join(map(code, cases))} |"


def render():
    lines = [HEAD.rstrip("\n")]
    for file in FILES:
        lines += rows(file)
    return "\n".join([*lines, *defects(), *elsewhere()]) + "\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(render())
