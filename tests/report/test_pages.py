import html.parser
import pathlib

import numpy as np
import pytest

from jaxkd import report

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(200, 4))
LABELS = RNG.integers(0, 4, 200)


class Reader(html.parser.HTMLParser):
    """What a browser would see."""

    def __init__(self):
        super().__init__()
        self.tags, self.text, self.open = [], "", []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("br", "img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(file):
    reader = Reader()
    reader.feed(pathlib.Path(file).read_text())
    assert reader.open == []
    return reader


def is_png(file):
    content = pathlib.Path(file).read_bytes()
    return content.startswith(b"\x89PNG") and len(content) > 1000


def test_a_page_holds_everything_and_points_nowhere(tmp_path):
    picture = tmp_path / "curve.png"
    curves = {"a": [(10, 50.0), (10, 60.0), (20, 70.0)], "b": [(10, 10.0)]}
    report.plot_learning_curves(curves, picture, title="curves")
    assert is_png(picture)
    parts = [
        report.Part("first <b>", ["x < y & z"], [("name", "n"), ("<i>", "1 (÷2.0)")]),
        report.Part("second", picture=picture),
    ]
    report.write_page(tmp_path / "page.html", "a > b", parts)
    page = read(tmp_path / "page.html")
    for words in ("a > b", "first <b>", "x < y & z", "<i>"):
        assert words in page.text
    # A ratio stands on a line of its own; other brackets stay where they are.
    assert "<td>1<br><small>(÷2.0)</small></td>" in (tmp_path / "page.html").read_text()
    kinds = [tag for tag, _ in page.tags]
    assert (kinds.count("tr"), kinds.count("img"), kinds.count("script")) == (2, 1, 0)
    (image,) = (found for tag, found in page.tags if tag == "img")
    assert image["src"].startswith("data:image/png;base64,iVBOR")
    assert all("href" not in found for _, found in page.tags)
    picture.unlink()
    with pytest.raises(FileNotFoundError):
        report.write_page(tmp_path / "other.html", "t", parts)
    assert not (tmp_path / "other.html").exists()


def test_markdown_says_what_the_page_says_and_escapes_what_it_would_read(tmp_path):
    picture = tmp_path / "curve.png"
    report.plot_learning_curves({"a": [(10, 50.0)]}, picture, title="curve")
    table = [("text", "a|b"), ("<i>", "2 * 3\n* 4")]
    parts = [
        report.Part("", ["one < two"], table),
        report.Part("Curve", (), (), picture),
    ]
    report.write_report(tmp_path, "a > b", parts)
    assert (tmp_path / "report.md").read_text().splitlines() == [
        *("# a > b", "", r"one \< two", ""),
        *(r"| text | a\|b |", "| --- | ---: |", r"| \<i> | 2 \* 3 \* 4 |", ""),
        *("## Curve", "", "![Curve](curve.png)"),
    ]
    assert "one < two" in read(tmp_path / "report.html").text
    with pytest.raises(FileNotFoundError):
        report.write_report(tmp_path / "none", "t", parts)


def test_reliability_of_a_model_that_is_always_right_or_half_the_time(tmp_path):
    from jaxkd.report._pictures import _reliability

    sure = np.log([[0.9, 0.1], [0.1, 0.9]] * 50)
    places, shares = _reliability(sure, np.array([0, 1] * 50), 10)
    np.testing.assert_allclose((places, shares), ([90.0], [100.0]))
    places, shares = _reliability(sure, np.zeros(100, int), 10)
    np.testing.assert_allclose((places, shares), ([90.0], [50.0]))
    file = tmp_path / "sure.png"
    report.plot_reliability({"net": LOGITS}, LABELS, file, title="sure")
    assert is_png(file)


@pytest.mark.parametrize("classes", [3, 30])
def test_changes_of_classes(classes, tmp_path):
    points = RNG.normal(size=classes)
    points[0] = np.nan  # a class without examples
    names = [f"class {i}" for i in range(classes)]
    file = tmp_path / "classes.png"
    report.plot_class_changes({"a": points, "b": -points}, names, file, title="who")
    assert is_png(file)


@pytest.mark.parametrize("shape", [(7, 8, 8, 1), (2, 8, 8, 3), (1, 4, 4, 1)])
def test_images_in_a_grid(shape, tmp_path):
    file = tmp_path / "images.png"
    images = RNG.normal(size=shape)
    report.plot_images(images, ["caption"] * len(images), file, title="images")
    assert is_png(file)
    report.plot_images(np.zeros(shape), ["c"] * len(images), file, title="flat")
    assert is_png(file)


def test_results_are_read_as_they_were_written(tmp_path):
    row = report.Row("net", (0.9, 0.8), (1.0, 1.0), 40, 20, 800, 0.01, 100.0)
    report.write_result(tmp_path, [row], ["one", "two"])
    assert report.read_result(tmp_path) == ([row], ["one", "two"])
    file = tmp_path / "result.json"
    for text in ("", "{}", '{"rows": [{"name": 1}], "words": []}', "[1]"):
        file.write_text(text)
        with pytest.raises(ValueError, match="damaged"):
            report.read_result(tmp_path)
