import importlib
import inspect
import json
import subprocess
import sys

import pytest

import jaxkd


@pytest.mark.parametrize("name", jaxkd.__all__)
def test_every_subpackage_exports_what_it_says(name):
    module = importlib.import_module(f"jaxkd.{name}")
    assert module is getattr(jaxkd, name)
    for public in getattr(module, "__all__", []):
        value = getattr(module, public)
        documented = isinstance(value, type) or inspect.isfunction(value)
        assert not documented or value.__doc__


def test_public_names_have_one_address():
    addresses = {}
    for name in jaxkd.__all__:
        module = getattr(jaxkd, name)
        for public in getattr(module, "__all__", []):
            addresses.setdefault(public, []).append(name)
    twice = {public: where for public, where in addresses.items() if len(where) > 1}
    # A loss and the objective that minimises it share a name on purpose.
    assert all(set(where) == {"losses", "objectives"} for where in twice.values())


CODE = """
import json, sys
import jax, flax, optax
before = set(sys.modules)
import jaxkd
light = sorted({m.split(".")[0] for m in set(sys.modules) - before})
print(json.dumps(light))
jaxkd.losses
print("orbax.checkpoint.v1" in sys.modules, "tensorflow_datasets" in sys.modules)
"""


def test_importing_jaxkd_imports_nothing_else():
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True
    )
    imported, rest = done.stdout.splitlines()
    assert json.loads(imported) == ["jaxkd"]
    assert rest == "False False"


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'trainer'"):
        jaxkd.trainer  # noqa: B018
