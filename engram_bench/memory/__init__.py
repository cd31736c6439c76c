"""An n-gram memory on a frozen model: the tokens up to a position decide alone which rows of a table it reads.

The idea is that of *Engram* (arXiv 2601.07372). Configuration, addresses, training, files and edits are here, in numpy. A
backend supplies the model's part: what the rows add to hidden states, gradients of the values, and likely tokens.
"""
