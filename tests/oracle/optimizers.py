# SPDX-License-Identifier: Apache-2.0
"""Optimizers and what rides along with a step, from the papers and from torch and Keras.

Names and meanings of the hyper-parameters are torch's in every convention; the defaults are those
of the library the convention names. One object owns the state of one tensor.

In ``convention="keras"`` weight decay is always decoupled. In ``convention="textbook"`` momentum
is an average (dampening defaults to the momentum), epsilon stands inside the root of Adagrad and
RMSprop, Adamax has no epsilon, Nadam is the form without a momentum schedule, and Nesterov's
gradient is taken ahead: at ``lookahead(p)``, not at p.
"""

from types import MappingProxyType, SimpleNamespace

import numpy as np

CONVENTIONS = ("torch", "keras", "textbook")


def _hyper(**defaults):
    return MappingProxyType(defaults)


class Optimizer:
    """Update rule of one tensor.

    Parameters
    ----------
    convention : {"torch", "keras", "textbook"}
        Which definition, and which defaults.
    **hyper
        The rule's own hyper-parameters, and for every rule `lr`, `weight_decay`,
        `decoupled_weight_decay`, `l1` and `maximize`.

    Attributes
    ----------
    hyper : SimpleNamespace
        May be changed between steps, as a learning-rate schedule does.
    state : dict
        Arrays under torch's names.
    steps : int
        Steps taken so far.
    """

    conventions = CONVENTIONS
    # Defaults in torch's convention, and what the other conventions change.
    defaults = _hyper()
    keras = _hyper()
    textbook = _hyper()
    # Whether weight decay is decoupled in every convention.
    always_decoupled = False
    # State that starts at zero in the shape of the tensor.
    slots: tuple = ()

    def __init__(self, *, convention="torch", **hyper):
        if convention not in self.conventions:
            raise ValueError(
                f"{type(self).__name__} has conventions {self.conventions}, got {convention!r}"
            )
        common = {
            "weight_decay": 0.0,
            "decoupled_weight_decay": self.always_decoupled or convention == "keras",
            "l1": 0.0,
            "maximize": False,
        }
        changed = {"torch": {}, "keras": self.keras, "textbook": self.textbook}[convention]
        defaults = {**common, **self.defaults, **changed}
        unknown = sorted(set(hyper) - set(defaults))
        if unknown:
            raise TypeError(f"unknown hyper-parameters {unknown}; known: {sorted(defaults)}")
        self.convention = convention
        self.hyper = SimpleNamespace(**{**defaults, **hyper})
        self.state = {}
        self.steps = 0

    def step(self, p, g):
        """Return the new value of p, given the gradient g; p and g are not changed."""
        h = self.hyper
        p = np.array(p, dtype=np.float64)
        g = np.array(g, dtype=np.float64)
        if self.steps == 0:
            self.state.update(self.start(p))
        self.steps += 1
        if h.maximize:
            g = -g
        g = g + h.l1 * np.sign(p)
        p, g = self.decay(p, g)
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.update(p, g)

    def decay(self, p, g):
        """Return p and g with the weight decay that belongs before the rule."""
        h = self.hyper
        if h.decoupled_weight_decay:
            return decoupled_weight_decay(p, h.lr, h.weight_decay), g
        return p, g + h.weight_decay * p

    def start(self, p):
        """Return the state before the first step."""
        return {slot: np.zeros_like(p) for slot in self.slots}

    def update(self, p, g):
        """Return p moved along the decorated gradient g."""
        raise NotImplementedError

    def average(self, slot, decay, sample):
        """state = decay * state + (1 - decay) * sample."""
        self.state[slot] = decay * self.state[slot] + (1 - decay) * sample
        return self.state[slot]


class SGD(Optimizer):
    """Gradient descent, momentum and Nesterov's momentum."""

    defaults = _hyper(lr=1e-3, momentum=0.0, dampening=0.0, nesterov=False)
    keras = _hyper(lr=0.01)
    textbook = _hyper(lr=0.01, dampening=None)
    slots = ("momentum_buffer",)

    def __init__(self, **hyper):
        super().__init__(**hyper)
        h = self.hyper
        if h.dampening is None:
            h.dampening = 0.0 if h.nesterov else h.momentum
        if self.convention == "keras" and h.dampening != 0:
            raise ValueError(f"Keras has no dampening, got {h.dampening}")

    def update(self, p, g):
        h = self.hyper
        if h.momentum == 0:
            return p - h.lr * g
        if self.convention == "keras":
            m = h.momentum * self.state["momentum_buffer"] - h.lr * g
            self.state["momentum_buffer"] = m
            return p + h.momentum * m - h.lr * g if h.nesterov else p + m
        v = h.momentum * self.state["momentum_buffer"] + (1 - h.dampening) * g
        if self.convention == "torch" and self.steps == 1:
            v = g
        self.state["momentum_buffer"] = v
        if h.nesterov and self.convention == "torch":
            return p - h.lr * (g + h.momentum * v)
        return p - h.lr * v

    def lookahead(self, p):
        """Where the textbook's Nesterov step wants its gradient: p - lr * momentum * v."""
        v = self.state.get("momentum_buffer", np.zeros_like(p, dtype=np.float64))
        return p - self.hyper.lr * self.hyper.momentum * v


class Adagrad(Optimizer):
    """Gradient over the root of the sum of its squares."""

    defaults = _hyper(lr=0.01, lr_decay=0.0, initial_accumulator_value=0.0, eps=1e-10)
    keras = _hyper(lr=1e-3, initial_accumulator_value=0.1, eps=1e-7)
    textbook = _hyper(eps=1e-8)

    def start(self, p):
        return {"sum": np.full_like(p, self.hyper.initial_accumulator_value)}

    def update(self, p, g):
        h = self.hyper
        total = self.state["sum"] = self.state["sum"] + g * g
        root = np.sqrt(total) + h.eps if self.convention == "torch" else np.sqrt(total + h.eps)
        return p - h.lr / (1 + (self.steps - 1) * h.lr_decay) * g / root


class RMSprop(Optimizer):
    """Gradient over the root of the average of its squares."""

    defaults = _hyper(lr=0.01, alpha=0.99, eps=1e-8, momentum=0.0, centered=False)
    keras = _hyper(lr=1e-3, alpha=0.9, eps=1e-7)
    textbook = _hyper(lr=1e-3, alpha=0.9)
    slots = ("square_avg", "grad_avg", "momentum_buffer")

    def update(self, p, g):
        h = self.hyper
        square = self.average("square_avg", h.alpha, g * g)
        if h.centered:
            square = square - self.average("grad_avg", h.alpha, g) ** 2
        root = np.sqrt(square) + h.eps if self.convention == "torch" else np.sqrt(square + h.eps)
        if h.momentum == 0:
            return p - h.lr * g / root
        # Keras keeps the learning rate inside the buffer; this shows when the rate changes.
        inside, outside = (h.lr, 1.0) if self.convention == "keras" else (1.0, h.lr)
        buffer = h.momentum * self.state["momentum_buffer"] + inside * g / root
        self.state["momentum_buffer"] = buffer
        return p - outside * buffer


class Adadelta(Optimizer):
    """Gradient times the root mean square of past steps over that of past gradients."""

    defaults = _hyper(lr=1.0, rho=0.9, eps=1e-6)
    keras = _hyper(lr=1e-3, rho=0.95, eps=1e-7)
    slots = ("square_avg", "acc_delta")

    def update(self, p, g):
        h = self.hyper
        square = self.average("square_avg", h.rho, g * g)
        delta = np.sqrt((self.state["acc_delta"] + h.eps) / (square + h.eps)) * g
        self.average("acc_delta", h.rho, delta * delta)
        return p - h.lr * delta


class Adam(Optimizer):
    """Bias-corrected mean of the gradient over the root of that of its square."""

    defaults = _hyper(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, amsgrad=False)
    keras = _hyper(eps=1e-7)
    slots = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")

    def update(self, p, g):
        h = self.hyper
        beta1, beta2 = h.betas
        correction1, correction2 = 1 - beta1**self.steps, 1 - beta2**self.steps
        m = self.average("exp_avg", beta1, g)
        v = self.average("exp_avg_sq", beta2, g * g)
        if h.amsgrad:
            v = self.state["max_exp_avg_sq"] = np.maximum(self.state["max_exp_avg_sq"], v)
        if self.convention == "keras":
            return p - h.lr * np.sqrt(correction2) / correction1 * m / (np.sqrt(v) + h.eps)
        return p - h.lr * (m / correction1) / (np.sqrt(v / correction2) + h.eps)


class AdamW(Adam):
    """Adam with decoupled weight decay."""

    defaults = _hyper(**Adam.defaults, weight_decay=1e-2)
    keras = _hyper(**Adam.keras, weight_decay=4e-3)
    always_decoupled = True


class Adamax(Optimizer):
    """Adam with the decaying maximum of the gradient for scale."""

    defaults = _hyper(lr=2e-3, betas=(0.9, 0.999), eps=1e-8)
    keras = _hyper(lr=1e-3, eps=1e-7)
    slots = ("exp_avg", "exp_inf")

    def update(self, p, g):
        h = self.hyper
        beta1, beta2 = h.betas
        m = self.average("exp_avg", beta1, g)
        size = np.abs(g) + h.eps if self.convention == "torch" else np.abs(g)
        u = self.state["exp_inf"] = np.maximum(beta2 * self.state["exp_inf"], size)
        rate = h.lr / (1 - beta1**self.steps)
        if self.convention == "keras":
            return p - rate * m / (u + h.eps)
        # Without an epsilon u is zero only where no gradient has ever been seen: nothing to do.
        return p - rate * np.where(u == 0, 0, m / u)


class NAdam(Optimizer):
    """Adam with Nesterov's momentum."""

    defaults = _hyper(lr=2e-3, betas=(0.9, 0.999), eps=1e-8, momentum_decay=4e-3)
    keras = _hyper(lr=1e-3, eps=1e-7, momentum_decay=1.0)
    slots = ("exp_avg", "exp_avg_sq")

    def start(self, p):
        return {**super().start(p), "mu_product": 1.0}

    def update(self, p, g):
        h = self.hyper
        beta1, beta2 = h.betas
        t = self.steps
        m = self.average("exp_avg", beta1, g)
        v = self.average("exp_avg_sq", beta2, g * g) / (1 - beta2**t)
        if self.convention == "textbook":
            ahead = (beta1 * m + (1 - beta1) * g) / (1 - beta1**t)
            return p - h.lr * ahead / (np.sqrt(v) + h.eps)
        mu = beta1 * (1 - 0.5 * 0.96 ** (t * h.momentum_decay))
        mu_next = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * h.momentum_decay))
        product = self.state["mu_product"] = self.state["mu_product"] * mu
        ahead = (1 - mu) * g / (1 - product) + mu_next * m / (1 - product * mu_next)
        return p - h.lr * ahead / (np.sqrt(v) + h.eps)


class RAdam(Optimizer):
    """Adam whose scaling waits until its variance is tractable. Keras has none."""

    conventions = ("torch", "textbook")
    defaults = _hyper(lr=1e-3, betas=(0.9, 0.999), eps=1e-8)
    slots = ("exp_avg", "exp_avg_sq")

    def update(self, p, g):
        h = self.hyper
        beta1, beta2 = h.betas
        t = self.steps
        m = self.average("exp_avg", beta1, g) / (1 - beta1**t)
        v = self.average("exp_avg_sq", beta2, g * g)
        limit = 2 / (1 - beta2) - 1
        length = limit - 2 * t * beta2**t / (1 - beta2**t)
        if length <= 5:
            return p - h.lr * m
        rectifier = np.sqrt(
            (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)
        )
        return p - h.lr * rectifier * m * np.sqrt(1 - beta2**t) / (np.sqrt(v) + h.eps)


class Lion(Optimizer):
    """Sign of an average of momentum and gradient; weight decay is decoupled."""

    defaults = _hyper(lr=1e-4, betas=(0.9, 0.99))
    keras = _hyper(lr=1e-3)
    always_decoupled = True
    slots = ("exp_avg",)

    def update(self, p, g):
        h = self.hyper
        direction = np.sign(h.betas[0] * self.state["exp_avg"] + (1 - h.betas[0]) * g)
        self.average("exp_avg", h.betas[1], g)
        return p - h.lr * direction


class LAMB(Optimizer):
    """Adam's step scaled to the length of the tensor.

    Weight decay joins the step before its length is taken, except in Keras, which decays first.
    """

    defaults = _hyper(lr=1e-3, betas=(0.9, 0.999), eps=1e-6)
    keras = _hyper(eps=1e-7)
    slots = ("exp_avg", "exp_avg_sq")

    def decay(self, p, g):
        return super().decay(p, g) if self.hyper.decoupled_weight_decay else (p, g)

    def update(self, p, g):
        h = self.hyper
        beta1, beta2 = h.betas
        m = self.average("exp_avg", beta1, g) / (1 - beta1**self.steps)
        v = self.average("exp_avg_sq", beta2, g * g) / (1 - beta2**self.steps)
        u = m / (np.sqrt(v) + h.eps)
        if not h.decoupled_weight_decay:
            u = u + h.weight_decay * p
        p_norm, u_norm = np.sqrt((p * p).sum()), np.sqrt((u * u).sum())
        trust = p_norm / u_norm if p_norm > 0 and u_norm > 0 else 1.0
        return p - h.lr * trust * u


OPTIMIZERS = {
    "sgd": SGD,
    "adagrad": Adagrad,
    "rmsprop": RMSprop,
    "adadelta": Adadelta,
    "adam": Adam,
    "adamw": AdamW,
    "adamax": Adamax,
    "nadam": NAdam,
    "radam": RAdam,
    "lion": Lion,
    "lamb": LAMB,
}


# --- what rides along -----------------------------------------------------------------------


def clip_coefficient(norm, max_norm, convention="torch"):
    """Return what a gradient of this norm is multiplied by.

    torch: min(1, max_norm / (norm + 1e-6)); Keras and the textbook: max_norm / max(norm, max_norm).
    """
    if convention == "torch":
        return min(1.0, max_norm / (norm + 1e-6))
    return max_norm / max(norm, max_norm)


def decorate_gradients(
    params,
    grads,
    *,
    grad_scale=1.0,
    maximize=False,
    clip_value=None,
    clip_norm=None,
    clip_global_norm=None,
    weight_decay=0.0,
    l1=0.0,
    convention="torch",
):
    """Return the gradients an optimizer sees, one array per tensor, in this order of work.

    1. times `grad_scale` (the inverse of a loss scale); 2. clipped to [-clip_value, clip_value];
    3. each tensor clipped to the norm `clip_norm`; 4. all tensors together to `clip_global_norm`;
    5. negated under `maximize`; 6. plus l1 * sign(p); 7. plus weight_decay * p (coupled).
    """
    grads = [np.array(g, dtype=np.float64) * grad_scale for g in grads]
    if clip_value is not None:
        grads = [np.clip(g, -clip_value, clip_value) for g in grads]
    if clip_norm is not None:
        norms = [np.sqrt((g * g).sum()) for g in grads]
        grads = [
            g * clip_coefficient(n, clip_norm, convention)
            for g, n in zip(grads, norms, strict=True)
        ]
    if clip_global_norm is not None:
        norm = np.sqrt(sum((g * g).sum() for g in grads))
        grads = [g * clip_coefficient(norm, clip_global_norm, convention) for g in grads]
    if maximize:
        grads = [-g for g in grads]
    return [
        g + l1 * np.sign(p) + weight_decay * np.asarray(p, dtype=np.float64)
        for p, g in zip(params, grads, strict=True)
    ]


def decoupled_weight_decay(p, lr, weight_decay):
    """p - lr * weight_decay * p, taken before the step."""
    return np.asarray(p, dtype=np.float64) * (1 - lr * weight_decay)


def ema(average, p, decay):
    """Moving average of the weights, taken after the step."""
    return decay * np.asarray(average, np.float64) + (1 - decay) * np.asarray(p, np.float64)
