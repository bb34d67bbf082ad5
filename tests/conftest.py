import os

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(autouse=True)
def strict_maths(request):
    """Maths floor only: optimisers and layers of others promote freely."""
    if "/losses/" in str(request.path) or "/compress/" in str(request.path):
        with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
            yield
    else:
        yield
