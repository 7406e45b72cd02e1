"""The run's configuration: one frozen tree, read from one YAML file.

section.py    what all parts are made of; the errors a user can mend
data.py       features and where the log lies
label.py      what a task learns of a row, and from which rows
model.py      the body of the network and the heads
method.py     how the tasks' gradients become one update
gradients.py  where and how often a method compares the tasks' gradients
optimizer.py  how parameters move
best.py       which evaluation, and so which checkpoint, is the best
sharding.py   how embedding tables are cut over the workers
warm_start.py what a new run takes over from another one
recon.py      whether a run counts its tasks' conflicts, layer by layer
training.py   how long a run trains, and what it keeps
run.py        everything else, and RunConfig
changes.py    what may differ when a run is gone on with
file.py       load_config: from YAML and overrides to RunConfig, with its complaints
"""

from recsys_mtl.config.changes import refuse_changes
from recsys_mtl.config.data import (
    Data,
    DenseFeature,
    Feature,
    FeatureColumns,
    IdFeature,
    OneHotFeature,
)
from recsys_mtl.config.gradients import Gradients
from recsys_mtl.config.label import Label
from recsys_mtl.config.method import (
    DW,
    IMTLG,
    MGDA,
    CAGrad,
    GradNorm,
    GradOPS,
    GradOPSStatic,
    GradVac,
    Method,
    PCGrad,
    PCGradDW,
    Uniform,
    UPGrad,
)
from recsys_mtl.config.model import (
    MixtureOfExpertsBody,
    Model,
    ProgressiveLayeredExtractionBody,
    SharedBottomBody,
)
from recsys_mtl.config.optimizer import (
    AdamConfig,
    AdamWConfig,
    ConstantSchedule,
    CosineSchedule,
    DenseConfig,
    ExponentialSchedule,
    LinearSchedule,
    Optimizer,
    Schedule,
    SgdConfig,
    TableOptimizer,
)
from recsys_mtl.config.recon import Recon
from recsys_mtl.config.run import Cluster, Metrics, Run, RunConfig, refuse_on_cpu
from recsys_mtl.config.section import ConfigError, Section, UserError
from recsys_mtl.config.sharding import TableSharding
from recsys_mtl.config.training import Training
from recsys_mtl.config.warm_start import WarmStart

__all__ = [
    "DW",
    "IMTLG",
    "MGDA",
    "AdamConfig",
    "AdamWConfig",
    "CAGrad",
    "Cluster",
    "ConfigError",
    "ConstantSchedule",
    "CosineSchedule",
    "Data",
    "DenseConfig",
    "DenseFeature",
    "ExponentialSchedule",
    "Feature",
    "FeatureColumns",
    "GradNorm",
    "GradOPS",
    "GradOPSStatic",
    "GradVac",
    "Gradients",
    "IdFeature",
    "Label",
    "LinearSchedule",
    "Method",
    "Metrics",
    "MixtureOfExpertsBody",
    "Model",
    "OneHotFeature",
    "Optimizer",
    "PCGrad",
    "PCGradDW",
    "ProgressiveLayeredExtractionBody",
    "Recon",
    "Run",
    "RunConfig",
    "Schedule",
    "Section",
    "SgdConfig",
    "SharedBottomBody",
    "TableOptimizer",
    "TableSharding",
    "Training",
    "UPGrad",
    "Uniform",
    "UserError",
    "WarmStart",
    "refuse_changes",
    "refuse_on_cpu",
]
