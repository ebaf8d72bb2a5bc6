"""Ends a process with the one that started it, however that ends: after SIGKILL none of its code runs any more.

As a program it turns into another one, which need not know of this. (A ``preexec_fn`` may deadlock in a parent with
threads.)
"""

import ctypes
import os
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1


def end_with_parent(signal_number: int, parent: int) -> None:
    """Ask Linux for a signal when the thread that started this process ends, and exit if process ``parent`` has ended.

    The request outlasts ``exec``. Other systems are not asked.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:
        sys.exit(1)


def launcher(signal_number: int) -> list[str]:
    """Return the start of a command that ends with its parent; its id, the program and its arguments follow."""
    return [sys.executable, "-IS", os.path.realpath(__file__), str(int(signal_number))]


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]), int(sys.argv[2]))
    os.execv(sys.argv[3], sys.argv[3:])  # noqa: S606
