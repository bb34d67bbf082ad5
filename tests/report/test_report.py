import io
import sys

import numpy as np
import pytest
from rich.console import Console

from jaxkd import compress, report

ROWS = [
    report.Row("teacher", (0.99, 0.97), (1.0, 1.0), 400, 400, 8000, 0.01, 100.0),
    report.Row("student", (0.90, 0.94), (0.9, 0.8), 100, 20, 2000, 0.005, 200.0),
]


def test_cells_are_numbers_and_ratios_to_the_first_row():
    header, teacher, student = report.compare(ROWS)
    assert len(header) == len(teacher) == len(student) == 8
    assert teacher == (
        "teacher",
        "98.00 ± 1.41",
        "100.00 ± 0.00",
        "400",
        "400",
        "8.0",
        "10.00",
        "100",
    )
    assert student == (
        "student",
        "92.00 ± 2.83 (0.939×)",
        "85.00 ± 7.07 (0.850×)",
        "100 (÷4.0)",
        "20 (÷20.0)",
        "2.0 (÷4.0)",
        "5.00 (÷2.0)",
        "200 (2.0×)",
    )


def test_agreement_that_nobody_counted_has_no_column():
    rows = [row._replace(agreement=()) for row in ROWS]
    header, teacher, student = report.compare(rows)
    assert header[:3] == ("model", "accuracy %", "parameters")
    assert teacher[:3] == ("teacher", "98.00 ± 1.41", "400")
    assert student[:3] == ("student", "92.00 ± 2.83 (0.939×)", "100 (÷4.0)")
    partly = report.compare([ROWS[0], rows[1]])
    assert partly[2][2] == "–"


def test_markdown_has_a_line_for_each_model():
    lines = report.markdown_table(ROWS).splitlines()
    assert len(lines) == 4
    assert all(line.count("|") == 9 for line in lines)


def test_the_printed_table_holds_every_cell():
    stream = io.StringIO()
    report.print_table(Console(file=stream, width=110), ROWS)
    text = stream.getvalue()
    for row in report.compare(ROWS)[1:]:
        for cell in row:
            for part in cell.replace(" ± ", "±").split(" ("):
                assert part.strip(")") in text


def test_the_printed_table_fits_eighty_columns_uncut():
    stream = io.StringIO()
    rows = [r._replace(parameters=94186, num_bytes=391_300) for r in ROWS]
    report.print_table(Console(file=stream, width=80), rows)
    text = stream.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_picture_is_a_picture(tmp_path):
    file = tmp_path / "report.png"
    report.plot_accuracy_against_size(ROWS, file, title="a title")
    assert file.read_bytes().startswith(b"\x89PNG")
    assert file.stat().st_size > 10_000


def test_progress_is_one_line_where_there_is_no_terminal():
    stream = io.StringIO()
    console = Console(file=stream, width=110)
    with report.show_progress(console, "teacher", total=10) as advance:
        advance(5, 0.7)
        advance(10, 0.25)
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("teacher")
    assert "10/10 steps" in line
    assert "0.2500" in line


def test_a_stage_that_was_done_before_shows_no_loss():
    stream = io.StringIO()
    with report.show_progress(Console(file=stream, width=110), "teacher", total=10):
        pass
    assert stream.getvalue().split() == ["teacher", "done", "before"]


def test_progress_is_a_live_bar_on_a_terminal(monkeypatch):
    stream = io.StringIO()
    console = Console(file=stream, width=110, force_terminal=True)
    monkeypatch.setattr("rich.progress.get_console", lambda: console)
    with report.show_progress(console, "teacher", total=10) as advance:
        advance(5, 0.7)
    text = stream.getvalue()
    assert "5/10" in text
    assert "━" in text


def test_records_survive_a_line_that_was_cut_short(tmp_path):
    file = tmp_path / "metrics.jsonl"
    lines = report.JsonLines(file)
    for step in range(5):
        lines.write({"step": step})
    with file.open("a") as stream:
        stream.write('{"step": 5, "lo')
    assert [r["step"] for r in lines.read()] == [0, 1, 2, 3, 4]
    lines.keep(lambda record: record["step"] < 3)
    lines.write({"step": 3})
    assert [r["step"] for r in lines.read()] == [0, 1, 2, 3]


def test_slow_models_are_timed_less_often(monkeypatch):
    now, calls = [0.0], {"fast": 0, "slow": 0}
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def run(name, seconds):
        calls[name] += 1
        now[0] += seconds

    models = {"fast": lambda: run("fast", 0.1), "slow": lambda: run("slow", 5.0)}
    found = report.measure_latency(models, rounds=30, limit=20.0)
    assert found == pytest.approx({"fast": 0.1, "slow": 5.0})
    assert calls == {"fast": 3 + 4, "slow": 2 + 4}  # after four rounds 20.4 s are gone
    calls.update(fast=0, slow=0)
    report.measure_latency(models, rounds=30, limit=0.0)
    assert calls == {"fast": 3 + 3, "slow": 2 + 3}
    calls.update(fast=0, slow=0)
    report.measure_latency(models, rounds=5, limit=1e6)
    assert calls == {"fast": 3 + 5, "slow": 2 + 5}


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    words = r"a report needs rich\.console; .* pip install -e '\.\[report\]'"
    with pytest.raises(ModuleNotFoundError, match=words):
        report.make_console(quiet=True)


def test_curves_are_drawn(tmp_path):
    left = {"a": np.array([8, 4, 1]), "b": np.array([4, 2])}
    losses = {"a": np.array([1.0, 1.5, np.inf]), "b": np.array([1.0, 2.0])}
    curves = compress.Sensitivity(1.0, left, losses)
    report.plot_sensitivity(curves, tmp_path / "plot.png", title="curves")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
