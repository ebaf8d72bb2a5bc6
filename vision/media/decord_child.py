"""The process that decord runs in: told frame numbers on a pipe, it answers with their pixels.

Run by ``decord_reader`` as a script of its own: it imports nothing of this project, and can be killed at any moment.
"""

import ctypes
import resource
import signal
import sys
from multiprocessing.connection import Connection

PR_SET_PDEATHSIG = 1
MEMORY_BYTES = 4 * 2**30
"""Of address space. decord decodes ahead without a limit; this one ends it before the machine suffers."""


def main(pipe: int, path: str, width: int, height: int) -> None:
    """Answer requests until the pipe is closed: first with the times of all frames, then with pixels by number."""
    # Whoever is killed cannot kill it, and a process that stands still does not see that its pipe is closed.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    import decord

    connection = Connection(pipe)
    video = decord.VideoReader(path, width=width, height=height, num_threads=2)
    connection.send(video.get_frame_timestamp(range(len(video)))[:, 0].tolist())
    while True:
        try:
            numbers = connection.recv()
        except EOFError:
            return
        pixels = video.get_batch(numbers).asnumpy()
        connection.send(pixels.shape)
        connection.send_bytes(memoryview(pixels).cast("B"))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
