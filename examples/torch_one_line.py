# SPDX-License-Identifier: Apache-2.0
"""A PyTorch classifier of handwritten digits, with one line changed.

    pip install 'fusednn[torch]' scikit-learn
    python torch_one_line.py [--epochs 15]

The training loop is PyTorch's. Only the optimizer comes from fusednn. Both take the same steps up
to rounding, which training magnifies slowly: the loss after one epoch is still the same.
"""

import argparse
import statistics
import time

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fusednn.torch import optim as fused

BATCH = 32


def digits():
    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x / 16, dtype=torch.float32)
    return train_test_split(x, torch.tensor(y), test_size=0.25, random_state=0, stratify=y)


def train(house, epochs):
    torch.manual_seed(0)
    x_train, x_test, y_train, y_test = digits()
    layers = []
    for width in (64, 64, 48, 48, 32):
        layers += [torch.nn.LazyLinear(width), torch.nn.LayerNorm(width), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers, torch.nn.LazyLinear(10))
    model(x_train[:1])

    optimizer = house.RMSprop(model.parameters(), lr=1e-3, eps=1e-5)  # the one line

    whole, steps = time.perf_counter(), []
    for epoch in range(epochs):
        for rows in torch.randperm(len(x_train)).split(BATCH):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x_train[rows]), y_train[rows])
            loss.backward()
            began = time.perf_counter()
            optimizer.step()
            steps.append(time.perf_counter() - began)
        if epoch == 0:
            first_loss = loss.item()
    whole = time.perf_counter() - whole
    with torch.no_grad():
        accuracy = (model(x_test).argmax(1) == y_test).double().mean().item()
    return first_loss, accuracy, statistics.median(steps), whole


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--epochs", type=int, default=15)
    epochs = parser.parse_args().epochs
    for house in (torch.optim, fused):  # once unmeasured: both load what they need
        house.RMSprop([torch.nn.Parameter(torch.ones(1))]).step()
    theirs, ours = train(torch.optim, epochs), train(fused, epochs)
    for name, (loss, accuracy, step, whole) in (("torch.optim", theirs), ("fusednn", ours)):
        print(
            f"{name:12} loss after one epoch {loss:.4f}  test accuracy {accuracy:.4f}  "
            f"step {step * 1e6:7.1f} us  training {whole:.2f} s"
        )
    print(
        f"speed-up: optimizer step {theirs[2] / ours[2]:.1f} times as fast, "
        f"the whole training {theirs[3] / ours[3]:.2f} times"
    )


if __name__ == "__main__":
    main()
