import gc

import pytest


@pytest.fixture(autouse=True)
def collect_what_orbax_leaves():
    """Here, where these modules' filters hold, and not in another module's test."""
    yield
    gc.collect()
