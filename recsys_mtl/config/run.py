"""The whole configuration of a run: one frozen tree."""

import re
from typing import Annotated, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from recsys_mtl.config.best import refuse_unusable
from recsys_mtl.config.data import Data
from recsys_mtl.config.gradients import Gradients
from recsys_mtl.config.method import Method, refuse_for_tasks
from recsys_mtl.config.model import Model
from recsys_mtl.config.optimizer import Optimizer
from recsys_mtl.config.recon import Recon
from recsys_mtl.config.section import Name, PositiveInt, Section, Spelled
from recsys_mtl.config.sharding import TableSharding
from recsys_mtl.config.training import Training
from recsys_mtl.config.warm_start import WarmStart


def _port_or_range(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 65535:
        return value
    found = re.fullmatch(r"(\d{1,5})-(\d{1,5})", value) if isinstance(value, str) else None
    if found is None or not 0 < int(found[1]) <= int(found[2]) <= 65535:
        raise ValueError(
            f"{value!r} is no port from 0 to 65535 and no range of ports such as 9400-9420"
        )
    return value


_PORT_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": 65535},
        {"type": "string", "pattern": r"^\d{1,5}-\d{1,5}$"},
    ]
}


class Run(Section):
    """What the run is called and where it lives."""

    name: Annotated[
        str,
        Spelled(
            r"[A-Za-z0-9][A-Za-z0-9._-]*",
            "letters, digits, '.', '_' and '-', none of the last three first",
        ),
    ]
    """Names the folder under `storage_path`; the same name continues the same run."""
    storage_path: str = "runs"
    """Folder or URL that every node of the cluster can write to."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides initial parameters, the order of rows, dropout and a method's draws."""
    warm_start: WarmStart | None = None
    """Another run whose checkpoint gives the first values of tables, body and heads; null begins
    with random ones. A run that goes on has its own."""


class Cluster(Section):
    """Where the run trains, and what it asks of Ray."""

    num_workers: Annotated[int, Field(ge=0)] = 1
    """Ray Train workers, at most `data.lanes`; 0 trains in this process, without Ray. Each has
    lanes / num_workers lanes, rounded up; the lanes that there are not are empty rows to it. So on
    8 lanes, 5 to 7 workers have as many rows each as 4 have."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` is cuda where there is a GPU for every worker, else cpu."""
    cpus_per_worker: PositiveInt = 1
    """CPUs reserved for a worker, and its number of torch threads."""
    max_restarts: Annotated[int, Field(ge=0)] = 3
    """How often a run goes on from its last checkpoint after a worker or node is lost. It does not
    apply with `num_workers: 0`, where the worker is the process that would start it again."""
    timeout_seconds: PositiveInt = 300
    """A collective operation that waits longer than this ends the attempt."""
    grace_seconds: PositiveInt = 25
    """After SIGTERM, time to take a checkpoint; less than the sender waits before it kills: 30 in
    Kubernetes unless said otherwise, 3 for `ray job stop` (RAY_JOB_STOP_WAIT_TIME_S)."""

    @property
    def in_this_process(self) -> bool:
        """Whether the process that starts the run trains it, without Ray."""
        return self.num_workers == 0

    @property
    def world_size(self) -> int:
        """Workers that train the run: one where that is this process."""
        return max(1, self.num_workers)


class Metrics(Section):
    """The run's Prometheus endpoint."""

    bind_address: str = "0.0.0.0"
    """Address the endpoint listens on; 127.0.0.1 keeps it on the machine."""
    port: Annotated[int | str, BeforeValidator(_port_or_range), WithJsonSchema(_PORT_SCHEMA)] = 0
    """0 takes any free port, 9400-9420 the first free one of these. The URL is printed.
    Ray's workers use 10002 to 19999."""
    bearer_token_file: str | None = None
    """File on the driver's machine with the token that a scraper must send; null asks for none."""
    discovery_folder: str | None = None
    """Folder on the driver's machine where `<run.name>.json` names the endpoint while the run
    goes on, for Prometheus's file_sd_configs."""
    linger_seconds: Annotated[int, Field(ge=0)] = 90
    """After the end the endpoint stays until it was scraped twice more, at most so long; not at
    all where nobody has scraped it and there is no discovery_folder."""

    @property
    def ports(self) -> list[int]:
        """To be tried in this order."""
        if isinstance(self.port, int):
            return [self.port]
        first, last = self.port.split("-")
        return list(range(int(first), int(last) + 1))


class RunConfig(Section):
    """Everything a run needs, as read from its YAML file."""

    run: Run
    """Name, place and seed."""
    data: Data
    """Click logs, features and labels."""
    model: Model = Model()
    """Body and heads."""
    method: Method
    """How the tasks' gradients become one update."""
    gradients: Gradients = Gradients()
    """Where and how often a method compares the tasks' gradients."""
    recon: Recon | None = None
    """Counts how often tasks conflict in each layer and table; null counts nothing."""
    optimizer: Optimizer = Optimizer()
    """Dense and table optimizers."""
    sharding: dict[Name, TableSharding] = Field(default_factory=dict)
    """By the feature that owns the table; a table that is not named is table_wise, fused."""
    training: Training
    """Batch, length, intervals."""
    cluster: Cluster = Cluster()
    """Workers and device."""
    metrics: Metrics = Metrics()
    """Prometheus endpoint."""

    @model_validator(mode="after")
    def _lanes_can_be_shared_out(self) -> Self:
        workers, lanes, rows = (
            self.cluster.world_size,
            self.data.lanes,
            self.training.global_batch_size,
        )
        if workers > lanes:
            raise ValueError(
                f"cluster.num_workers is {workers}, more than the lanes that workers share out "
                f"(data.lanes is {lanes}); take at most {lanes}, or more lanes for a new run"
            )
        if rows % lanes:
            raise ValueError(
                f"training.global_batch_size is {rows}, which data.lanes ({lanes}) does not "
                f"divide; the nearest that fits is {max(lanes, round(rows / lanes) * lanes)}"
            )
        return self

    @model_validator(mode="after")
    def _evaluations_can_be_compared(self) -> Self:
        training = self.training
        refuse_unusable(
            training.best_by,
            training.patience_evaluations,
            training.evaluation_interval_steps,
            self.task_names,
        )
        return self

    @model_validator(mode="after")
    def _tasks_can_be_weighed(self) -> Self:
        refuse_for_tasks(self.method, self.task_names)
        return self

    @model_validator(mode="after")
    def _tables_can_be_cut(self) -> Self:
        dims = {n: f.embedding_dim for n, f in self.data.id_features() if f.table is None}
        for name, sharding in self.sharding.items():
            place, kind, columns = f"sharding.{name}", sharding.kind, sharding.columns_per_shard
            dim = dims.get(name)
            if dim is None:
                raise ValueError(
                    f"{place} names no table; the features that own one: {', '.join(dims) or '-'}"
                )
            if columns is not None and dim % columns:
                raise ValueError(
                    f"{place}.columns_per_shard is {columns}, which does not divide the table's "
                    f"embedding_dim ({dim}); take a multiple of 4 that does"
                )
            if kind == "column_wise" and self.optimizer.tables.kind == "rowwise_adagrad":
                raise ValueError(
                    f"{place}.kind is column_wise, where rowwise_adagrad would keep one state per "
                    "column shard and give other results; take optimizer.tables.kind adagrad or "
                    "sgd, or table_wise"
                )
            if self.cluster.device == "cpu":
                refuse_on_cpu(name, sharding)
        return self

    @model_validator(mode="after")
    def _gradients_can_be_compared(self) -> Self:
        """What a method reads of the gradients must be there, in the space where they are taken."""
        kind, needs, space = self.method.kind, self.method.needs, self.gradients.space
        if not needs & {"gram", "layer_grams"}:
            return self
        if space == "representation" and "layer_grams" in needs:
            raise ValueError(
                "gradients.space is representation, where no layer has a gradient per task; "
                f"method.kind {kind} reads the gradient of the last shared layer; choose "
                "gradients.space: parameters"
            )
        if space == "representation" and (above := self.model.shared_above_task_specific):
            raise ValueError(
                "gradients.space is representation, the input of the first layer of "
                f"model.task_specific_layers; {', '.join(above)} above it would be shared, with "
                "gradients that are not compared; name the layers above in "
                "model.task_specific_layers, too, or choose gradients.space: parameters"
            )
        self._refuse_nothing_to_compare(kind, needs)
        return self

    @model_validator(mode="after")
    def _conflicts_can_be_counted(self) -> Self:
        if self.recon is None:
            return self
        if len(self.task_names) == 1:
            raise ValueError(
                "recon counts pairs of tasks that conflict, and data.labels has one task; name "
                "another, or remove recon"
            )
        own_layers = set(self.model.task_specific_layers)
        if own_layers == set(self.model.bottom_layers) and not self.data.id_features():
            raise ValueError(
                "recon counts conflicts in what tasks share, and model.task_specific_layers names "
                "every layer of a model without embedding tables; leave a layer shared, or remove "
                "recon"
            )
        return self

    def _refuse_nothing_to_compare(self, kind: str, needs: frozenset[str]) -> None:
        if set(self.model.task_specific_layers) != set(self.model.bottom_layers):
            return
        remedies = ["leave a layer shared", "choose method.kind uniform"]
        if "layer_grams" in needs:
            lack = f"method.kind {kind} compares the gradients of layers alone"
        elif not self.data.id_features():
            lack = "there are no embedding tables"
        elif self.gradients.scope == "bottom":
            lack = "gradients.scope is bottom, which leaves out the embedding tables"
            remedies.insert(1, "choose gradients.scope: all")
        else:
            return
        raise ValueError(
            f"model.task_specific_layers names every layer of the bottom, and {lack}: no shared "
            f"gradient would be left to compare; {', or '.join(remedies)}"
        )

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the T tasks, in the order of every [T] tensor."""
        return tuple(self.data.labels)

    def to_yaml(self) -> str:
        """The whole tree, defaults included, as YAML that `load_config` reads back."""
        tree = self.model_dump(mode="json")
        return str(yaml.dump(tree, Dumper=_Dumper, sort_keys=False))


EXPONENT_NUMBER = re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$")
"""1e-3: YAML 1.1 takes it for text, as it has no dot; here it is a number."""


def refuse_on_cpu(table: str, sharding: TableSharding) -> None:
    """Nothing, where workers without a GPU can hold the table so.

    Raises:
        ValueError: they cannot; says what to choose.
    """
    if sharding.kind == "row_wise":
        raise ValueError(
            f"sharding.{table}.kind is row_wise, which TorchRec has on CUDA only; choose "
            "table_wise or column_wise for workers without a GPU"
        )
    if sharding.kernel != "fused":
        raise ValueError(
            f"sharding.{table}.kernel is {sharding.kernel}, which there is on CUDA only; choose "
            "fused for workers without a GPU"
        )


class _Dumper(yaml.SafeDumper):
    """SafeDumper that puts text like 1e5 in quotes, for `load_config` would read a number."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT_NUMBER, list("-+0123456789"))
