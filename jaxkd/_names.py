"""Names that are not there: words that say which there are, the nearest first."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


def nearest(name: str, known: Iterable[str]) -> str:
    """Words for an error: the known names, nearest to the wrong one first.

    Args:
        name: the name that was not found.
        known: the names there are; of a dict of arrays, their shapes are told too.

    Returns:
        ``"did you mean 'a'? Known are 'a', 'b'."``, or words for no names at all.
    """
    names = sorted(known)
    if not names:
        return "none are known."
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    arrays = known if isinstance(known, Mapping) else {}
    shapes = {n: f" {x.shape}" for n, x in arrays.items() if hasattr(x, "shape")}
    shown = ", ".join(f"{n!r}{shapes.get(n, '')}" for n in names[:40])
    there = "Known are" if hint else "known are"
    return f"{hint}{there} {shown}{', ...' if len(names) > 40 else ''}."


def get(batch: Mapping[str, Any], key: str, reader: str) -> Any:
    """``batch[key]``, or an error which says who needs the key and what there is.

    Args:
        batch: a dict of arrays.
        key: the entry to read.
        reader: who reads it, for the message.

    Returns:
        The entry.

    Raises:
        KeyError: if the batch has no such entry.
    """
    if key not in batch:
        there = nearest(key, batch) if batch else "it got nothing."
        raise KeyError(f"{reader} needs batch[{key!r}]; {there}")
    return batch[key]
