import os
import pathlib
import sys

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jaxkd.train import data_mesh

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # for the tools of the tests


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """Where compiled programs are kept: the environment's place, or one of our own."""
    kept = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    return kept or str(tmp_path_factory.mktemp("compiled"))


@pytest.fixture(autouse=True, scope="module")
def shared_programs(compiled):
    """Runs repeat each other's stages, here and in processes of their own.

    Each compiles its steps anew, so these are read back wherever they were compiled
    before.
    """
    settings = {
        "jax_compilation_cache_dir": compiled,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            jax.config.update(name, value)
            patch.setenv(name.upper(), str(value))
        compilation_cache.reset_cache()
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def one_device():
    """Programs for all of them compile far longer; other tests have these."""
    alone = data_mesh(jax.devices()[:1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxkd.train._parallel.data_mesh", lambda: alone)
        yield
