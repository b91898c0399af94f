"""Training that can be killed at any moment; `remote_log`, `remote_errors` and `sinks` are the mirror of its log."""

from helpers.training.devices import initialize_processes, strategy
from helpers.training.gradients import value_and_gradients
from helpers.training.loop import fit
from helpers.training.prefetching import prefetch

__all__ = ["fit", "initialize_processes", "prefetch", "strategy", "value_and_gradients"]
