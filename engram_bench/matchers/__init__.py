"""Whether a completion gives an accepted answer: pure functions of two texts, found by name.

    >>> match("number", "It is 1,024 bytes.", ("1024",)).passed
    True
    >>> match("exact", "the answer is 404", ("404",)).reason
    "found 'the answer is 404', expected '404'"

What a model said is untrusted text: nothing is executed, and sizes, depths and search times have bounds.
"""

from engram_bench.matchers.protocol import Matcher, UnusableAnswer, miss, shown
from engram_bench.matchers.registry import answer_problem, match, names, register
from engram_bench.matchers.text import normalise

__all__ = ["Matcher", "UnusableAnswer", "answer_problem", "match", "miss", "names", "normalise", "register", "shown"]
