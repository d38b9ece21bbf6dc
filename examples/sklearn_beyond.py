# SPDX-License-Identifier: Apache-2.0
"""What scikit-learn's perceptron does not have: dropout, class weights, one's own validation data.

python examples/sklearn_beyond.py
"""

from __future__ import annotations

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fusednn.sklearn import MLPClassifier, to_sklearn


def main():
    X, y = load_digits(return_X_y=True)
    X_train, X_valid, y_train, y_valid = train_test_split(X / 16, y, random_state=0, stratify=y)
    model = MLPClassifier(
        (128, 64),
        random_state=0,
        early_stopping=True,
        n_iter_no_change=15,
        dropout=0.2,
        class_weight="balanced",
    )
    model.fit(X_train, y_train, validation_data=(X_valid, y_valid))
    for epoch in range(0, model.n_iter_, 10):
        loss, other = model.loss_curve_[epoch], model.validation_loss_curve_[epoch]
        print(f"epoch {epoch:3d}  loss {loss:.4f}  on validation data {other:.4f}")
    print(f"accuracy {model.best_validation_score_:.4f} after {model.n_iter_} epochs")

    # The same network for a place where only scikit-learn is installed.
    theirs = to_sklearn(model)
    assert theirs.score(X_valid, y_valid) == model.score(X_valid, y_valid)


if __name__ == "__main__":
    main()
