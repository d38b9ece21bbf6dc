# SPDX-License-Identifier: Apache-2.0
"""Estimators for scikit-learn: its multi-layer perceptrons, faster and allowed to grow.

>>> from fusednn.sklearn import MLPClassifier            # was: from sklearn.neural_network import
>>> from sklearn.datasets import load_digits
>>> X, y = load_digits(return_X_y=True)
>>> MLPClassifier((64,), random_state=0, early_stopping=True).fit(X / 16, y).score(X / 16, y) > 0.9
True

scikit-learn is imported here and nowhere else in fusednn; 1.5 or newer.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

try:
    import sklearn
except ImportError:
    raise ImportError(
        "fusednn.sklearn needs scikit-learn, which is not installed: pip install 'fusednn[sklearn]'"
    ) from None

if tuple(int(part) for part in sklearn.__version__.split(".")[:2]) < (1, 5):
    raise ImportError(
        f"fusednn.sklearn needs scikit-learn 1.5 or newer, found {sklearn.__version__}: "
        "pip install --upgrade scikit-learn"
    )

if TYPE_CHECKING:
    from fusednn.sklearn.autoencoder import AutoencoderTransformer as AutoencoderTransformer
    from fusednn.sklearn.classifier import MLPClassifier as MLPClassifier
    from fusednn.sklearn.convert import from_sklearn as from_sklearn
    from fusednn.sklearn.convert import to_sklearn as to_sklearn
    from fusednn.sklearn.many import fit_many as fit_many
    from fusednn.sklearn.progress import ProgressBar as ProgressBar
    from fusednn.sklearn.regressor import MLPRegressor as MLPRegressor
    from fusednn.sklearn.search import FusedSearchCV as FusedSearchCV

# Imported when somebody asks for them: name -> module.
_LATER = {
    "AutoencoderTransformer": "fusednn.sklearn.autoencoder",
    "FusedSearchCV": "fusednn.sklearn.search",
    "MLPClassifier": "fusednn.sklearn.classifier",
    "MLPRegressor": "fusednn.sklearn.regressor",
    "ProgressBar": "fusednn.sklearn.progress",
    "fit_many": "fusednn.sklearn.many",
    "from_sklearn": "fusednn.sklearn.convert",
    "to_sklearn": "fusednn.sklearn.convert",
}

__all__ = [
    "AutoencoderTransformer",
    "FusedSearchCV",
    "MLPClassifier",
    "MLPRegressor",
    "ProgressBar",
    "fit_many",
    "from_sklearn",
    "to_sklearn",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'fusednn.sklearn' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
