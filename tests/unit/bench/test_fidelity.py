"""The loss that int8 is said to cost is the loss."""

import numpy as np
import pytest

from bench.fidelity import lost


def test_an_even_guess_loses_the_logarithm_of_the_choices():
    """Of four equal choices each token costs log 4; a certain and right one costs nothing."""
    assert lost(np.zeros((3, 4)), [0, 1, 3]) == pytest.approx(3 * np.log(4))
    assert lost(np.array([[100.0, 0.0]]), [0]) == pytest.approx(0)
    assert lost(np.array([[100.0, 0.0]]), [1]) == pytest.approx(100)
