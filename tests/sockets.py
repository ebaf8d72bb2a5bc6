"""Ends a process that asks the system for an internet socket, so that a test records what native code does."""

import ctypes
import platform
import struct
import sys
from typing import Final

_NO_NEW_PRIVILEGES: Final = 38
_SET_SECCOMP, _FILTER = 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_KILL, _ALLOW = 0x80000000, 0x7FFF0000
_SOCKET: Final = {"x86_64": 41, "aarch64": 198}
"""Number of the system call, by machine."""
SUPPORTED: Final = sys.platform == "linux" and platform.machine() in _SOCKET


def end_on_internet_sockets() -> None:
    """From now on have SIGSYS end this process when it asks for an IPv4 or IPv6 socket, in any of its threads."""
    instructions = [
        (_LOAD, 0, 0, 0),  # number of the call
        (_EQUAL, 0, 4, _SOCKET[platform.machine()]),
        (_LOAD, 0, 0, 16),  # first argument: the family
        (_EQUAL, 1, 0, 2),  # AF_INET
        (_EQUAL, 0, 1, 10),  # AF_INET6
        (_RETURN, 0, 0, _KILL),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in instructions))
    program = struct.pack("@HP", len(instructions), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((_NO_NEW_PRIVILEGES, 1, 0, 0, 0), (_SET_SECCOMP, _FILTER, program, 0, 0)):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
