"""What every recipe returns."""

from typing import NamedTuple

from jaxkd import report


class Result(NamedTuple):
    """What came out.

    Attributes:
        rows: the rows of the table, the teacher first.
        words: the result in plain words.
    """

    rows: list[report.Row]
    words: list[str]
