"""Darknet's optimiser and its learning-rate rule."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from helpers.boat_detection.layers import Tensor


@keras.saving.register_keras_serializable("helpers")
class DarknetSGD(keras.optimizers.Optimizer):
    """Stochastic gradient descent as in Darknet: v <- m v - (g + decay w), then w <- w + rate v.

    The rate stays outside the velocity, so a step of the rate acts at once; Keras's SGD keeps it inside. The decay is part of
    the gradient and acts on kernels only (variables of two dimensions and more), not on biases, gammas and betas; Keras's own
    `weight_decay` is another thing, decoupled from it. `gradient_accumulation_steps` is Darknet's `subdivisions`.
    """

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule,
        momentum: float = 0.9,
        decay: float = 0.0005,
        *,
        name: str = "darknet_sgd",
        **options: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, name=name, **options)
        self.momentum, self.decay = momentum, decay

    def build(self, variables: list) -> None:
        if self.built:
            return
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")

    def update_step(self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor) -> None:
        velocity = self.velocities[self._get_variable_index(variable)]
        rate, gradient = ops.cast(learning_rate, variable.dtype), ops.cast(gradient, variable.dtype)
        if len(variable.shape) > 1:
            gradient = gradient + self.decay * variable
        moved = self.momentum * velocity - gradient
        self.assign(velocity, moved)
        self.assign_add(variable, rate * moved)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum, "decay": self.decay}


@keras.saving.register_keras_serializable("helpers")
class DarknetSchedule(LearningRateSchedule):
    """Darknet's rate at update t = 1, 2, ...: rate (t / burn_in)^4 before burn_in, then rate x product of the scales so far.

    Args:
        learning_rate: after the burn-in.
        burn_in: updates; 0 for none.
        steps: updates, ascending, from which on the scales act.
        scales: one factor per step.
        subdivisions: calls of the optimiser per update: its `gradient_accumulation_steps`, because Keras counts those.
    """

    def __init__(
        self,
        learning_rate: float,
        burn_in: int,
        steps: Sequence[int] = (),
        scales: Sequence[float] = (),
        subdivisions: int = 1,
    ) -> None:
        super().__init__()
        self.learning_rate, self.burn_in = float(learning_rate), burn_in
        self.steps, self.scales, self.subdivisions = list(steps), list(scales), subdivisions

    def __call__(self, step: Tensor) -> Tensor:
        t = ops.cast(step, "int32") // self.subdivisions + 1
        rate = ops.convert_to_tensor(self.learning_rate, "float32")
        for first, scale in zip(self.steps, self.scales, strict=True):
            rate = ops.where(t >= first, rate * scale, rate)
        if not self.burn_in:
            return rate
        warm = self.learning_rate * ops.power(ops.cast(t, "float32") / float(self.burn_in), 4.0)
        return ops.where(t < self.burn_in, warm, rate)

    def get_config(self) -> dict[str, Any]:
        names = ("learning_rate", "burn_in", "steps", "scales", "subdivisions")
        return {name: getattr(self, name) for name in names}
