"""Models of tests are too small to share: on one thread they are quick on a busy machine too."""

import pytest

from tests.support.tiny_model import one_thread


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield
