"""``python -m engram_bench``: the command where its script is not on the path."""

from engram_bench.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
