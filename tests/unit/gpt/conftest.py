"""Models of tests are too small to share: on one thread they are quick on a busy machine too."""

import pytest
from torch.nn import functional

from tests.support.cuda_step import linear_by_row
from tests.support.tiny_model import one_thread


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture
def exact_products(monkeypatch):
    """Rows do not show in one another, so that nothing depends on this processor's kernels."""
    monkeypatch.setattr(functional, "linear", linear_by_row)
