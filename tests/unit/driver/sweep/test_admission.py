"""Which cells have room at the same time."""

import pytest

from recsys_mtl.config import UserError
from recsys_mtl.driver.sweep.admission import Demand, Room, fits

TWO = Demand(2, {"CPU": 1.0})
WIDE = Demand(1, {"CPU": 3.0})
GPUS = Demand(2, {"CPU": 1.0, "GPU": 1.0})
HERE = Demand(0, {})


def test_all_workers_must_have_a_place_at_once() -> None:
    assert fits([TWO], [{"CPU": 2.0}])
    assert fits([TWO], [{"CPU": 1.0}, {"CPU": 1.0}])
    assert not fits([TWO, TWO], [{"CPU": 3.0}])
    assert fits([TWO, TWO], [{"CPU": 3.0}, {"CPU": 1.0}])


def test_a_worker_does_not_stretch_over_nodes_and_the_widest_is_placed_first() -> None:
    assert not fits([WIDE], [{"CPU": 2.0}, {"CPU": 2.0}])
    assert fits([TWO, WIDE], [{"CPU": 3.0}, {"CPU": 2.0}])


def test_gpus_count_too() -> None:
    assert fits([GPUS], [{"CPU": 4.0, "GPU": 2.0}])
    assert not fits([GPUS, GPUS], [{"CPU": 8.0, "GPU": 3.0}])
    assert not fits([GPUS], [{"CPU": 8.0}])


def test_on_ray_as_many_run_as_have_room_now_that_the_cluster_may_have_grown() -> None:
    nodes = [{"CPU": 2.0}]
    room = Room(lambda: nodes, None)
    assert room.admits(TWO, [])
    assert not room.admits(TWO, [TWO])
    nodes.append({"CPU": 2.0})
    assert room.admits(TWO, [TWO])
    assert not Room(lambda: nodes, 1).admits(TWO, [TWO])


def test_without_ray_one_runs_at_a_time_or_as_many_as_are_asked_for() -> None:
    assert Room(list, None).admits(HERE, [])
    assert not Room(list, None).admits(HERE, [HERE])
    assert Room(list, None).admits(HERE, [TWO]), "a cell on Ray does not take this machine"
    assert Room(list, 3).admits(HERE, [HERE, HERE])
    assert not Room(list, 3).admits(HERE, [HERE, HERE, HERE])


def test_a_cell_that_never_fits_is_refused_with_what_there_is() -> None:
    room = Room(lambda: [{"CPU": 2.0, "GPU": 1.0}, {"CPU": 2.0}], None)
    room.refuse_what_never_fits("small", TWO)
    room.refuse_what_never_fits("here", HERE)
    with pytest.raises(UserError) as refused:
        room.refuse_what_never_fits("large", GPUS)
    assert str(refused.value).startswith(
        "large has 2 worker(s) of 1 CPU and 1 GPU, and the cluster, of 4 CPU and 1 GPU on 2 "
        "node(s), has no room for all of them even when it is empty; set cluster.num_workers"
    )
