"""`python -m recsys_mtl` is `recsys-mtl`."""

from recsys_mtl.cli import main

if __name__ == "__main__":
    main()
