"""The run's configuration: one frozen tree, read from one YAML file.

section.py  what all parts are made of; the errors a user can mend
data.py     features, labels and where the log lies
method.py   how the tasks' gradients become one update
sharding.py how embedding tables are cut over the workers
run.py      everything else, and RunConfig
changes.py  what may differ when a run is gone on with
file.py     load_config: from YAML and overrides to RunConfig, with its complaints
"""

from recsys_mtl.config.changes import refuse_changes
from recsys_mtl.config.data import Data, DenseFeature, Feature, IdFeature
from recsys_mtl.config.method import GradOPS, Method, Uniform
from recsys_mtl.config.run import (
    Adam,
    Cluster,
    Metrics,
    Model,
    Optimizer,
    Run,
    RunConfig,
    Sgd,
    Tables,
    Training,
    refuse_on_cpu,
)
from recsys_mtl.config.section import ConfigError, Section, UserError
from recsys_mtl.config.sharding import TableSharding

__all__ = [
    "Adam",
    "Cluster",
    "ConfigError",
    "Data",
    "DenseFeature",
    "Feature",
    "GradOPS",
    "IdFeature",
    "Method",
    "Metrics",
    "Model",
    "Optimizer",
    "Run",
    "RunConfig",
    "Section",
    "Sgd",
    "TableSharding",
    "Tables",
    "Training",
    "Uniform",
    "UserError",
    "refuse_changes",
    "refuse_on_cpu",
]
