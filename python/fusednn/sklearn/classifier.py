# SPDX-License-Identifier: Apache-2.0
"""The classifier."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target, unique_labels

from fusednn.errors import check_integer
from fusednn.sklearn import scores
from fusednn.sklearn.base import BaseMLP, Request
from fusednn.sklearn.compat import StrOptions, first_partial_fit, with_callbacks
from fusednn.sklearn.objectives import CLASSIFICATION_LOSSES, Objective, for_classes


def _plain(labels: Any) -> bool:
    """Whether labels are integers in an array, about which there is nothing to find out."""
    return type(labels) is np.ndarray and labels.ndim == 1 and labels.dtype.kind in "iu"


def _classes(y: np.ndarray) -> np.ndarray:
    """Return the distinct ones of plain labels, which mostly are small numbers to be counted."""
    if y.min() >= 0 and y.max() < len(y):
        return np.flatnonzero(np.bincount(y.astype(np.intp, copy=False))).astype(y.dtype)
    return np.unique(y)


def _binarizer(y: Any) -> LabelBinarizer:
    """Return a LabelBinarizer that knows y, sooner than its `fit` does where y is plain."""
    binarizer = LabelBinarizer()
    if not _plain(y):
        return binarizer.fit(y)
    classes = _classes(y)
    if 2 * len(classes) > len(y):  # of which scikit-learn warns
        return binarizer.fit(y)
    binarizer.classes_ = classes
    binarizer.y_type_ = "multiclass" if len(classes) > 2 else "binary"
    binarizer.sparse_input_ = False
    return binarizer


def _has_probabilities(estimator: Any) -> bool:
    if estimator.loss not in ("auto", "log_loss"):
        raise AttributeError(f"loss={estimator.loss!r} gives no probabilities")
    return True


class MLPClassifier(ClassifierMixin, BaseMLP):
    """scikit-learn's classifier of the same name, trained by fused native code.

    With the same arguments it follows scikit-learn step by step: same initial weights, same
    batches, same formulas, same rules for stopping. Arguments after `max_fun` are new.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, or int
        Units of the hidden layers.
    activation : str, fusednn.activations.Activation, or list
        "identity", "logistic", "tanh", "relu", or any of ``fusednn.activations.names()``; a list
        has one per hidden layer.
    solver : str or fusednn.optimizers.Optimizer
        "lbfgs", "sgd", "adam" as in scikit-learn; or "adamw", "rmsprop", "nadam", "radam",
        "adagrad", "adadelta", "adamax", "lion", "lamb" with PyTorch's formulas and defaults.
    alpha : float
        L2 penalty of the kernels, divided by the number of samples of a batch.
    batch_size : int or "auto"
        "auto" is ``min(200, n_samples)``.
    learning_rate : {"constant", "invscaling", "adaptive"}
        What becomes of `learning_rate_init`; not for "adam" and "lbfgs".
    learning_rate_init, power_t, max_iter, shuffle, tol : as in scikit-learn
    random_state : int, RandomState or None
        Decides initial weights, the split for early stopping, and the order of samples: the same
        numbers as in scikit-learn.
    verbose, warm_start, momentum, nesterovs_momentum : as in scikit-learn
    early_stopping, validation_fraction, n_iter_no_change : as in scikit-learn
        Part of the data decides when to stop; or all of `validation_data`, given to `fit`.
    beta_1, beta_2, epsilon, max_fun : as in scikit-learn
    loss : {"auto", "log_loss", "hinge", "squared_hinge"}
        "auto" is the log-loss. A hinge compares each class with the rest and gives no
        probabilities.
    class_weight : dict, "balanced" or None
        Weight of each class in the loss; with several labels a list of dicts. "balanced" counts
        the classes of the rows it is given, in `partial_fit` those of each call.
    dropout : float or list of float
        Share of the units of each hidden layer that are left out of a step.
    batch_norm : bool
        Whether hidden layers are normalised over the batch, before their activation. Sample
        weights weigh losses, not these statistics.
    l1 : float
        L1 penalty of the kernels, scaled as `alpha`.
    clipnorm : float, optional
        Most that the norm of all gradients together may be.
    optimizer_params : dict, optional
        More arguments of the optimizer named by `solver`.
    initializer : str or fusednn.initializers.Initializer
        Of the kernels, with biases 0; "auto" is scikit-learn's law for both.
    schedule : callable, optional
        ``schedule(step)`` is the learning rate of each step, counted from 0.
    callbacks : list of fusednn.callbacks.Callback, optional
        Their `logs` have "loss", "learning_rate" and, with validation data, "val_loss" and
        "val_score".
    device : {"auto", "cpu", "cuda"}
    precision : {"auto", "float32", "float64", "bfloat16"}
        "auto" follows X. "bfloat16" is float32 with rounded operands in products.
    n_threads : int, optional
        Most threads that training uses; default ``fusednn.get_num_threads()``.

    Attributes
    ----------
    classes_ : array
        All classes.
    coefs_, intercepts_ : list of array
        Kernels of shape (in, out), and biases.
    loss_, best_loss_, loss_curve_, n_iter_, t_, n_layers_, n_outputs_, out_activation_
        As in scikit-learn.
    validation_scores_, best_validation_score_
        As in scikit-learn; the scores also where validation data are given without early stopping.
    validation_loss_curve_ : list of float or None
        Loss on the validation data, without penalty.
    history_ : dict of str to list of float
        All that is known of each epoch.
    n_features_in_, feature_names_in_
        Of X.
    device_ : str
        The device that "auto" stands for.

    Examples
    --------
    >>> from fusednn.sklearn import MLPClassifier
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = MLPClassifier((32,), learning_rate_init=0.01, random_state=0, class_weight="balanced")
    >>> clf.fit(X, y).score(X, y) > 0.9
    True
    """

    _classifies = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions(set(CLASSIFICATION_LOSSES))],
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        loss: str = "auto",
        class_weight: Any = None,
        dropout: Any = 0.0,
        batch_norm: bool = False,
        l1: float = 0.0,
        clipnorm: float | None = None,
        optimizer_params: Any = None,
        initializer: Any = "auto",
        schedule: Any = None,
        callbacks: Any = None,
        device: str = "auto",
        precision: str = "auto",
        n_threads: int | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.loss = loss
        self.class_weight = class_weight
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.l1 = l1
        self.clipnorm = clipnorm
        self.optimizer_params = optimizer_params
        self.initializer = initializer
        self.schedule = schedule
        self.callbacks = callbacks
        self.device = device
        self.precision = precision
        self.n_threads = n_threads

    def __sklearn_tags__(self) -> Any:  # from 1.6 on; before it, see compat.py
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    # ---- data ----------------------------------------------------------------------------------

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        X, y = self._examine(X, y, reset)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = _binarizer(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            classes = unique_labels(y)
            if self.warm_start and set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous "
                    f"call to fit. Previously got {self.classes_}, `y` has {classes}"
                )
            if len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
                raise ValueError(
                    "`y` has classes not in `self.classes_`. `self.classes_` has "
                    f"{self.classes_}. 'y' has {classes}."
                )
        return X, self._indicators(y)

    def _validate_others(self, X: Any, y: Any) -> tuple[Any, Any]:
        X, y = self._examine(X, y, False)
        unknown = np.setdiff1d(unique_labels(y), self.classes_)
        if len(unknown):
            raise ValueError(f"validation_data: y has classes {unknown} that `fit` was not given")
        return X, self._indicators(y)

    def _indicators(self, y: Any) -> np.ndarray:
        """Return which classes each row has, one column per output, for known classes only."""
        if self._label_binarizer.y_type_ not in ("binary", "multiclass"):
            return self._label_binarizer.transform(y).astype(bool)
        if self._exclusive():
            return y[:, None] == self.classes_
        return (y == self.classes_[-1])[:, None] & (len(self.classes_) > 1)

    def _exclusive(self) -> bool:
        """Whether exactly one class is right, out of more than two."""
        return self._label_binarizer.y_type_ == "multiclass"

    def _objective(self, y: np.ndarray) -> Objective:
        return for_classes(self.loss, y.shape[1], self._exclusive())

    def _weigh(self, y: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray | None:
        if self.class_weight is None:
            return sample_weight
        several = not self._exclusive() and y.shape[1] > 1
        given = y.astype(int) if several else self._label_binarizer.inverse_transform(y)
        factor = compute_sample_weight(self.class_weight, given)
        return factor if sample_weight is None else sample_weight * factor

    def _score_outputs(
        self, outputs: np.ndarray, y: np.ndarray, weight: np.ndarray | None
    ) -> float:
        if self._exclusive():
            return scores.accuracy(outputs.argmax(axis=1) == y.argmax(axis=1), weight)
        return scores.accuracy((outputs > 0) == y, weight)

    # ---- partial_fit ---------------------------------------------------------------------------

    @available_if(lambda self: self._check_solver())
    @with_callbacks
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None, *, epochs: int = 1
    ) -> MLPClassifier:
        """Update the model with one epoch, or several, over the given data.

        Parameters
        ----------
        X, y, sample_weight : as in `fit`
        classes : array, optional
            All classes that will ever come; needed in the first call.
        epochs : int
            How often to go through the data.

        Returns
        -------
        self

        Examples
        --------
        >>> from fusednn.sklearn import MLPClassifier
        >>> clf = MLPClassifier((4,), random_state=0)
        >>> clf = clf.partial_fit([[0.0], [1.0]], ["a", "b"], classes=["a", "b", "c"], epochs=3)
        >>> len(clf.loss_curve_)
        3
        """
        self._validate_params()
        self._check_combinations()
        if first_partial_fit(self, classes):
            several = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if several else classes)
        first = not hasattr(self, "coefs_")
        epochs = check_integer("epochs", epochs, 1)
        return self._fit(X, y, sample_weight, Request(first, True, None, epochs))

    # ---- predictions ---------------------------------------------------------------------------

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of each row, or a matrix of zeros and ones where a row has several.

        Examples
        --------
        >>> from fusednn.sklearn import MLPClassifier
        >>> clf = MLPClassifier((4,), solver="lbfgs", random_state=0)
        >>> print(*clf.fit([[0.0], [1.0]], ["no", "yes"]).predict([[2.0]]))
        yes
        """
        outputs = self._outputs(X, ranked=True)
        if self._exclusive():
            return self.classes_[outputs.argmax(axis=1)]
        above = outputs > (0.5 if self.out_activation_ == "logistic" else 0.0)
        if self._label_binarizer.y_type_.startswith("multilabel"):
            return self._label_binarizer.inverse_transform(above.astype(int))
        return self.classes_[np.minimum(above[:, 0], len(self.classes_) - 1).astype(int)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of rows whose prediction is right.

        Where a row has several classes, all of them must be.

        Examples
        --------
        >>> from fusednn.sklearn import MLPClassifier
        >>> clf = MLPClassifier((4,), solver="lbfgs", random_state=0)
        >>> clf.fit([[0.0], [1.0]], ["no", "yes"]).score([[2.0], [-1.0]], ["yes", "yes"])
        0.5
        """
        predictions = self.predict(X)
        simple = sample_weight is None and _plain(y) and _plain(predictions)
        if simple and len(y) == len(predictions):
            return scores.accuracy(predictions == y, None)
        return float(accuracy_score(y, predictions, sample_weight=sample_weight))

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, in the order of `classes_`.

        Returns
        -------
        array of shape (samples, classes)
            Rows add up to 1, except where a row may have several classes.
        """
        outputs = self._outputs(X)
        return np.hstack([1 - outputs, outputs]) if self.n_outputs_ == 1 else outputs

    @available_if(_has_probabilities)
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of `predict_proba`."""
        probabilities = self.predict_proba(X)
        return np.log(probabilities, out=probabilities)
