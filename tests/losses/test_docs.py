import pathlib
import re

from jaxkd import losses

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "losses.md"


def test_every_public_name_has_one_row_and_no_row_is_of_another():
    text = PAGE.read_text().split("## Notation")[1]
    rows = re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == set(losses.__all__) - {"Mean"}


def test_the_decision_table_names_losses_that_exist():
    text = PAGE.read_text().split("## Notation")[0]
    for name in re.findall(r"`(\w+)", text):
        assert hasattr(losses, name) or name in {"class_mask"}
