"""How the threads of a matrix library wait for each other: asleep, so that they leave a busy machine to those who work.

A thread that has ended its part of a product waits for the others. By default the OpenMP libraries let it spin: libgomp for
some milliseconds, Intel's for 200. Where another process keeps a thread from its core, the others spin all that time, in each
of the thousands of products of a training step.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

ASLEEP = ("OMP_WAIT_POLICY", "PASSIVE")
"""Environment variable and value that both libraries read once, when they are loaded.

Source: OpenMP API 5.2, section 21.3, "OMP_WAIT_POLICY".
"""
SAME_MATTER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
"""Variables with which a user chooses how threads wait; one of them keeps this package from choosing."""


def wait_asleep(environment: MutableMapping[str, str] | None = None) -> None:
    """Let threads wait asleep, unless the environment says how they wait.

    A call after a library was loaded has no effect on this library.

    Args:
        environment: Variables to look at and to change; None stands for those of this process.
    """
    variables = os.environ if environment is None else environment
    if not any(name in variables for name in SAME_MATTER):
        variables.__setitem__(*ASLEEP)
