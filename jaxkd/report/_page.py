"""A report: text, tables and pictures, as Markdown and as one page of HTML."""

import base64
import html
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from jaxkd.report._records import write_atomically

_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line);
  text-align: right; white-space: nowrap; vertical-align: top; }
th { white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; height: auto; background: white; }
"""


class Part(NamedTuple):
    """A section of a report; what it does not have is left empty.

    Attributes:
        title: its heading.
        words: paragraphs.
        table: a header and rows of text.
        picture: a file (PNG).
    """

    title: str
    words: Sequence[str] = ()
    table: Sequence[Sequence[str]] = ()
    picture: pathlib.Path | None = None


def write_report(folder: str | pathlib.Path, title: str, parts: Sequence[Part]) -> None:
    """Writes ``report.html``, see :func:`write_page`, and the same as ``report.md``.

    Args:
        folder: where to; it is there already.
        title: the heading.
        parts: the sections; their pictures are in the folder, for ``report.md`` only
            names them.

    Raises:
        FileNotFoundError: if the folder or a picture is not there.

    Examples:
        >>> import pathlib, tempfile
        >>> from jaxkd import report
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> table = [("model", "%"), ("teacher", "99"), ("student", "98")]
        >>> report.write_report(folder, "Run", [report.Part("Result", table=table)])
        >>> print((folder / "report.md").read_text())
        # Run
        <BLANKLINE>
        ## Result
        <BLANKLINE>
        | model | % |
        | --- | ---: |
        | teacher | 99 |
        | student | 98 |
        <BLANKLINE>
    """
    folder = pathlib.Path(folder)
    write_page(folder / "report.html", title, parts)
    text = [f"# {_escape(title)}"]
    for part in parts:
        text += [f"## {_escape(part.title)}"] if part.title else []
        text += map(_escape, part.words)
        text += [markdown_lines(part.table)] if part.table else []
        if part.picture is not None:
            text.append(
                f"![{_escape(part.title or part.picture.stem)}]({part.picture.name})"
            )
    write_atomically(folder / "report.md", "\n\n".join(text) + "\n")


def markdown_lines(table: Sequence[Sequence[str]]) -> str:
    """A table in Markdown.

    Args:
        table: a header and rows of text.

    Returns:
        A line for each, and the ruler; what Markdown would read is escaped.
    """
    header, *lines = ([_escape(cell) for cell in row] for row in table)
    ruler = ("---", *["---:"] * (len(header) - 1))
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ruler, *lines))


def _escape(text: str) -> str:
    """The text as it is: no tags, no emphasis, no new cells or lines."""
    return re.sub(r"([\\*|<])", r"\\\1", " ".join(text.splitlines()))


def write_page(file: str | pathlib.Path, title: str, parts: Sequence[Part]) -> None:
    """Writes a page that opens in any browser, alone, without a network.

    Args:
        file: where to (HTML); it is whole or not there.
        title: its heading.
        parts: its sections; texts are escaped, pictures embedded.

    Raises:
        FileNotFoundError: if a picture is not there.

    Examples:
        >>> import pathlib, tempfile
        >>> from jaxkd import report
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "page.html"
        >>> report.write_page(file, "a < b", [report.Part("Result", ["It works."])])
        >>> "<h1>a &lt; b</h1>" in file.read_text()
        True
    """
    body = "\n".join(_section(part) for part in parts)
    name = html.escape(title)
    text = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{name}</h1>\n{body}\n</body>\n</html>\n"
    )
    write_atomically(pathlib.Path(file), text)


def _section(part: Part) -> str:
    lines = [f"<h2>{html.escape(part.title)}</h2>"] if part.title else []
    lines += [f"<p>{html.escape(words)}</p>" for words in part.words]
    if part.table:
        lines.append(_table(part.table))
    if part.picture is not None:
        coded = base64.b64encode(part.picture.read_bytes()).decode()
        alt = html.escape(part.title or part.picture.stem)
        lines.append(f'<img alt="{alt}" src="data:image/png;base64,{coded}">')
    return f"<section>\n{chr(10).join(lines)}\n</section>"


def _table(table: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        inner = "".join(f"<{tag}>{_cell(cell)}</{tag}>" for cell in cells)
        return f"<tr>{inner}</tr>"

    header, *rows = table
    body = "\n".join(line(row, "td") for row in rows)
    return (
        f'<div class="wide"><table>\n<thead>{line(header, "th")}</thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _cell(text: str) -> str:
    """The text, with a ratio to another row's number on a line of its own."""
    ratio = r" (\((?:÷[\d.,]+|[\d.,]+×)\))$"
    return re.sub(ratio, r"<br><small>\1</small>", html.escape(text))
