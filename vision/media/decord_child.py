"""The process that decord runs in: it receives frame numbers on a pipe and answers with their pixels.

``decord_reader`` runs it as a script: it imports nothing of this project, and can be killed at any moment.
"""

import ctypes
import resource
import signal
import sys
from multiprocessing.connection import Connection

PR_SET_PDEATHSIG = 1
MEMORY_BYTES = 4 * 2**30
"""Address space. decord decodes ahead without a limit; this one ends the process before the machine suffers."""


def main(pipe: int, path: str) -> None:
    """Answer requests until the pipe is closed: first with the times of all frames, then with pixels by number."""
    # A parent that is killed cannot kill its child, and a stopped process does not notice that its pipe is closed.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    import decord

    connection = Connection(pipe)
    video = decord.VideoReader(path, num_threads=2)
    connection.send(video.get_frame_timestamp(range(len(video)))[:, 0].tolist())
    while True:
        try:
            numbers = connection.recv()
        except EOFError:
            return
        try:
            pixels = video.get_batch(numbers).asnumpy()
        except decord.DECORDError:
            connection.send(None)
            continue
        connection.send(pixels.shape)
        connection.send_bytes(memoryview(pixels).cast("B"))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
