"""The cases of compression.npz, by name."""

import functools
import json
import re

import numpy as np


@functools.cache
def load(directory):
    """The cases: name -> input and output arrays by path, and `meta` as a dict."""
    cases = {}
    with np.load(directory / "compression.npz") as arrays:
        for key in arrays.files:
            name, kind, path = re.match(
                r"(.*?)/(input|output|meta)(?:[./](.*))?$", key
            ).groups()
            case = cases.setdefault(name, {"input": {}, "output": {}})
            if kind == "meta":
                case["meta"] = json.loads(str(arrays[key])) | {"case": name}
            else:
                case[kind][path or ""] = arrays[key]
    return cases
