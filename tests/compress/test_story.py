"""The program in docs/quantization.md runs, and is true."""

import pathlib
import re

import jax

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "quantization.md"


def test_the_story_runs():
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(program, names)
        lost = {n: float(names["loss"](p)) for n, p in names["trees_to_save"].items()}
    sizes = names["sizes"]
    assert sizes["pruned"] < sizes["dense"] / 3
    assert sizes["palette"] < sizes["dense"] / 9
    assert sizes["int4"] < sizes["dense"] / 9
    assert lost["palette"] < 2 * lost["pruned"] + 0.01
    sparsity = lambda kernel: names["trees"].sparsity(kernel)
    assert sparsity(names["tuned"]["hidden"]["kernel"].array()) >= 0.79
    assert sparsity(names["int4"]["hidden"]["kernel"].integers()) >= 0.79
