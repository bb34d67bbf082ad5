import os

# Tests compile far more than they run, so the compiler need not try hard. At level 0 it
# is wrong: some gradients of convolutions are NaN (jax 0.10.2).
os.environ["XLA_FLAGS"] = " ".join(
    ["--xla_backend_optimization_level=1", os.environ.get("XLA_FLAGS", "")]
)
os.environ.setdefault("MPLBACKEND", "Agg")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Thousands of compiled programs would fill the memory of a small machine."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def strict_maths(request):
    """Maths floor only: optimisers and layers of others promote freely."""
    if "/losses/" in str(request.path) or "/compress/" in str(request.path):
        with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
            yield
    else:
        yield
