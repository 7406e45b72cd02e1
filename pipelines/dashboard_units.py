"""Values in Grafana's units, as text."""

import math

_SCALES = {
    "none": ((1.0, ""),),
    "short": ((1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, "")),
    "percentunit": ((0.01, " %"),),
    "s": ((86400.0, " d"), (3600.0, " h"), (60.0, " min"), (1.0, " s"), (1e-3, " ms")),
    "bytes": ((2.0**30, " GiB"), (2.0**20, " MiB"), (2.0**10, " KiB"), (1.0, " B")),
    "rowsps": ((1e6, " M rows/s"), (1e3, " k rows/s"), (1.0, " rows/s")),
}
"""From the largest: what a value is divided by, and what is written behind it."""


def spelled(value: float, unit: str, decimals: int | None = None) -> str:
    """A value with its unit; `decimals` None takes three digits."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size, name = scale(value, unit)
    return _digits(value / size, decimals) + name


def scale(value: float, unit: str) -> tuple[float, str]:
    """What a value of this size is divided by, and what is then written behind it.

    Raises:
        ValueError: an unknown unit.
    """
    if unit not in _SCALES:
        raise ValueError(f"the unit {unit!r} is not spelled yet; known: {', '.join(_SCALES)}")
    scales, size = _SCALES[unit], abs(value) or 1.0  # 0 s, not 0 ms
    return next((s for s in scales if size >= s[0]), scales[-1])


def _digits(value: float, decimals: int | None) -> str:
    if decimals is not None:
        return f"{value:.{decimals}f}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
