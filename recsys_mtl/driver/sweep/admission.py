"""Which cells may train at the same time: those whose workers all have room.

On Ray, two runs that each hold some of their workers and wait for the rest would wait for ever. So
a cell is admitted only when the cluster has room for all of its workers beside those of the cells
that are running. That is counted here, since what Ray says is free lags behind what was started.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from recsys_mtl.config import UserError
from recsys_mtl.driver.events import tell_output_of
from recsys_mtl.driver.preemption import Sigterm
from recsys_mtl.driver.sweep.cells import Cell

Node = Mapping[str, float]
"""Resource to amount: CPU, GPU."""


@dataclass(frozen=True)
class Demand:
    """What a cell holds while it runs."""

    workers: int
    """On Ray; 0 for a cell that trains in its own process."""
    per_worker: Node
    """What each of them reserves on one node."""


def fits(demands: Sequence[Demand], nodes: Sequence[Node]) -> bool:
    """Whether all workers of all demands have a place on the nodes at once.

    Workers with the largest demands are placed first, each on the first node with room. With nodes
    of 4 and 2 CPUs, two workers of 2 CPUs and one of 2 fit, and two workers of 3 do not.
    """
    free = [dict(node) for node in nodes]
    workers = [demand.per_worker for demand in demands for _ in range(demand.workers)]
    for wanted in sorted(workers, key=lambda w: sorted(w.items()), reverse=True):
        node = next((n for n in free if all(n.get(r, 0.0) >= a for r, a in wanted.items())), None)
        if node is None:
            return False
        for resource, amount in wanted.items():
            node[resource] -= amount
    return True


class Room:
    """How many cells may run beside each other."""

    def __init__(self, nodes: Callable[[], Sequence[Node]], parallel: int | None) -> None:
        """Ask `nodes` what the cluster has, whenever something is to start.

        Args:
            parallel: most cells at a time; None is no limit on Ray, and one without.
        """
        self._nodes, self._parallel = nodes, parallel

    def refuse_what_never_fits(self, name: str, demand: Demand) -> None:
        """Raise UserError for a cell that not even the empty cluster has room for."""
        nodes = self._nodes() if demand.workers else []
        if not demand.workers or fits([demand], nodes):
            return
        each = " and ".join(f"{amount:g} {kind}" for kind, amount in demand.per_worker.items())
        there = " and ".join(
            f"{sum(node.get(kind, 0.0) for node in nodes):g} {kind}" for kind in demand.per_worker
        )
        raise UserError(
            f"{name} has {demand.workers} worker(s) of {each}, and the cluster, of {there} on "
            f"{len(nodes)} node(s), has no room for all of them even when it is empty; set "
            "cluster.num_workers or cluster.cpus_per_worker lower, or start the sweep when the "
            "cluster has grown"
        )

    def admits(self, demand: Demand, running: Sequence[Demand]) -> bool:
        """Whether a cell may start beside those that are running."""
        if self._parallel is not None and len(running) >= self._parallel:
            return False
        if demand.workers:
            return fits([*running, demand], self._nodes())
        here = sum(1 for other in running if not other.workers)
        return here < (self._parallel or 1)


@contextmanager
def room_for(
    cells: Sequence[Cell], parallel: int | None, sigterm: Sigterm
) -> Iterator[tuple[Room, Callable[[Cell], Demand], Mapping[str, str]]]:
    """Say how many cells run at a time, what each takes, and the environment of their processes.

    Where one trains on Ray, join the cluster of RAY_ADDRESS or start one for the whole sweep.
    """
    on_ray = [c.config for c in cells if not c.config.cluster.in_this_process]
    if not on_ray:
        yield Room(list, parallel), lambda cell: Demand(0, {}), os.environ
        return
    from recsys_mtl.driver import cluster  # Ray need not be installed where no cell trains on it

    def demand_of(cell: Cell) -> Demand:
        config = cell.config
        if config.cluster.in_this_process:
            return Demand(0, {})
        device = cluster.device_of(config)
        return Demand(
            config.cluster.num_workers, cluster.resources_per_worker(config.cluster, device)
        )

    end_telling = tell_output_of("ray")
    try:
        cluster.start_ray(
            max(on_ray, key=lambda c: c.cluster.num_workers * c.cluster.cpus_per_worker)
        )
        sigterm.listen()
        environment = os.environ | {"RAY_ADDRESS": cluster.cluster_address()}
        yield Room(cluster.cluster_nodes, parallel), demand_of, environment
    finally:
        cluster.leave_cluster()
        end_telling()
