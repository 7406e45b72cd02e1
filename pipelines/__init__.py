"""What one runs with recsys_mtl: makers of click logs, and the runs' configurations in `runs/`."""
