"""Arrow columns to float64.

n rows.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def numbers(column: pa.Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(values with 0 where not known, whether each is known: neither null nor NaN), [n] each."""
    values = pc.cast(column, pa.float64(), safe=False).fill_null(np.nan)
    found = values.to_numpy(zero_copy_only=False)
    known = ~np.isnan(found)
    return np.where(known, found, 0.0), known


def fits_float32(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """[n] Whether each value stays finite in a batch's float32."""
    return np.abs(values) <= float(np.finfo(np.float32).max)
