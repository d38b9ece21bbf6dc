# SPDX-License-Identifier: Apache-2.0
"""scikit-learn's own tests of its perceptrons, as they are installed, run on ours.

The file is loaded with our classes in place of theirs. Tests that reach into what is private there
are left out, each with its reason.
"""

from __future__ import annotations

import importlib.util
from unittest import mock

import pytest

pytest.importorskip("sklearn")

import sklearn.neural_network

import fusednn.sklearn

# Name -> why it cannot run on anything but scikit-learn's own class.
LEFT_OUT = {
    "test_gradient": "calls the private _loss_grad_lbfgs with buffers of scikit-learn's own; "
    "test_lbfgs.py compares our gradient with differences instead",
}
OURS = {name: getattr(fusednn.sklearn, name) for name in ("MLPClassifier", "MLPRegressor")}


def load_their_tests():
    spec = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    if spec is None:  # some distributions leave the tests out
        return {}
    module = importlib.util.module_from_spec(spec)
    with mock.patch.multiple(sklearn.neural_network, **OURS):
        spec.loader.exec_module(module)
    assert module.MLPClassifier is OURS["MLPClassifier"]
    return {name: test for name, test in vars(module).items() if name.startswith("test_")}


THEIRS = load_their_tests()
globals().update({name: test for name, test in THEIRS.items() if name not in LEFT_OUT})
# Their configuration, not ours, says which warnings are errors.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def global_random_seed():
    return 42


def test_nothing_is_left_out_without_being_there():
    assert not THEIRS or set(LEFT_OUT) <= set(THEIRS)
