"""An n-gram memory on a frozen model: which row of a table a position reads is told by its tokens alone.

After *Engram* (arXiv 2601.07372). This area is numpy and integers: configuration, addresses, table files and edits. The
sums are each backend's.
"""
