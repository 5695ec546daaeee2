"""Ready-made models: configuration → module, program, and the rule by which a seed gives the initial weights.

`models` (the modules), `configuration` (checked fields of models and optimizers), `build` (program and module, states
back into modules). Flows in: plain dicts, as a task file has them. Flows out: programs and modules.
"""

from ml.presets.build import Built, build, load_parameters

__all__ = ["Built", "build", "load_parameters"]
