"""What a run measures of itself: AUC and log-loss, the trace of every step, and its pictures."""
