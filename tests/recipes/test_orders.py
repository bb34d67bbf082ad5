import dataclasses
import json

import pytest

from jaxkd import recipes, report

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
pytestmark = pytest.mark.usefixtures("one_device")
SMALL = recipes.OrdersConfig(
    widths=(8, 16),
    student=(8,),
    orders=("quantize", "extract", "shrink quantize"),
    steps=4,
    teacher_steps=60,
)


@pytest.fixture(scope="module")
def done(one_device, tmp_path_factory):
    folder = tmp_path_factory.mktemp("orders") / "run"
    run = recipes.RECIPES["orders"].run
    return folder, run(SMALL, folder, quiet=True)


def test_each_order_is_a_row_beside_its_teacher(done):
    folder, result = done
    teacher, quantized, extracted, shrunk = result.rows
    assert [row.name for row in result.rows] == ["teacher", *SMALL.orders]
    assert teacher.accuracy[0] > 0.5
    assert quantized.agreement[0] > 0.9
    assert shrunk.parameters < quantized.parameters == teacher.parameters
    assert extracted.parameters == 72 + 16 + 8 * 10 + 10
    assert teacher.num_bytes > quantized.num_bytes > shrunk.num_bytes
    text = (folder / "report.md").read_text()
    assert "1-shrink" in text
    assert "within 0.5 points" in text
    assert report.read_result(folder)[0] == result.rows


def test_orders_share_one_teacher_and_are_runs_of_their_own(done):
    folder, result = done
    places = sorted((folder / "orders").iterdir())
    assert [p.name for p in places] == ["extract", "quantize", "shrink-quantize"]
    rows, _ = report.read_result(places[1])
    assert rows[0].accuracy == result.rows[0].accuracy
    saved = json.loads((places[2] / "config.json").read_text())["config"]
    assert [stage["stage"] for stage in saved["stages"]] == [
        *("shrink", "quantize", "export")
    ]


def test_a_finished_run_is_read_again(done):
    folder, result = done
    before = (folder / "metrics.jsonl").read_text()
    again = recipes.orders(SMALL, folder, resume=True, quiet=True)
    assert [r.accuracy for r in again.rows] == [r.accuracy for r in result.rows]
    assert (folder / "metrics.jsonl").read_text() == before
    with pytest.raises(recipes.FolderError, match="holds a run already"):
        recipes.orders(SMALL, folder, quiet=True)


def test_an_order_that_breaks_the_floor_ends_alone(done, tmp_path):
    _, result = done
    accuracy = result.rows[0].accuracy[0]
    orders = ("quantize", "extract")
    config = dataclasses.replace(SMALL, orders=orders, floor=accuracy - 0.1)
    found = recipes.orders(config, tmp_path / "run", quiet=True)
    assert [row.name for row in found.rows] == ["teacher", "quantize"]
    assert "“extract” ended: stage 1-distil brought" in found.words[-1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"orders": ()}, "at least one"),
        ({"orders": ("prune", "prune ")}, "must be different"),
        ({"orders": ("prun",)}, "did you mean 'prune'"),
        ({"orders": ("prune extract",)}, "extract is not the first"),
        ({"orders": ("quantize prune",)}, "cannot follow stage 1, quantize"),
        ({"sparsity": 2.0}, "order 'prune quantize': `sparsity`"),
        ({"format": "onx"}, "did you mean 'onnx'"),
    ],
)
def test_wrong_settings_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        recipes.OrdersConfig(**changes)
