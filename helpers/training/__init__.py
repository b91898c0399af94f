"""Training that can be killed at any moment.

The parts: `loop`, `checkpoints`, `prefetching`, `feed`, `early_stop`, `devices`, `gradients`; and the mirror: `remote_log`,
`remote_errors`, `access`, `sinks`.
"""

from helpers.training.devices import initialize_processes, strategy
from helpers.training.gradients import value_and_gradients
from helpers.training.loop import fit
from helpers.training.prefetching import prefetch

__all__ = ["fit", "initialize_processes", "prefetch", "strategy", "value_and_gradients"]
