"""Days that differ in the synthetic click log: new users and items, and a popularity that turns.

As many users (and items) are active on every day. A twentieth of them leave each day, and as many
new ones take their places. Each day, too, popularity turns: all who are active become a hundredth
of the ranks less popular, and the least popular hundredth come out on top. What a user or an item
is like never changes, so what was learnt on one day holds on the next.
"""

# A users (or items) active on a day.

import numpy as np

from pipelines.synthetic_world import ID_COLUMNS, IntArray, generator

DRIFTING = ("user_id", "item_id")
NEW_PER_DAY = 1 / 20
TURN_PER_DAY = 1 / 100


def ids_by_rank(seed: int, *, day: int, days: int) -> dict[str, IntArray]:
    """Returns which users and items are active on a day, most popular first.

    With A = 100 places on a day, 5 of them change hands each day: on day 0 place k has the id k;
    on day 1 places 0 to 4 have the ids 100 to 104. All ids of all days stay below the column's
    cardinality, so tables that hold the log without drift hold it with drift, too.

    Args:
        seed: the log's.
        day: from 0 to `days`, which is the day after the last, the evaluation's.
        days: of training.

    Returns:
        For each column in DRIFTING, [A] ids.
    """
    rng = generator(seed, "drift")
    found: dict[str, IntArray] = {}
    for column in ID_COLUMNS:
        if column.name in DRIFTING:
            active = int(column.cardinality / (1 + NEW_PER_DAY * days))
            places = np.roll(rng.permutation(active), day * int(TURN_PER_DAY * active))
            changed_hands = day * int(NEW_PER_DAY * active)  # in the order of the places, round
            times = (changed_hands - places + active - 1) // active
            found[column.name] = places + times * active
    return found
