"""Training that can be killed at any moment; the parts are `loop`, `checkpoints`, `feed`, `devices`, `remote_log`, `sinks`."""

from helpers.training.devices import initialize_processes, strategy
from helpers.training.feed import prefetch
from helpers.training.loop import fit

__all__ = ["fit", "initialize_processes", "prefetch", "strategy"]
