"""Processor time of a tree of processes: children, what has ended, and what has lost its parent."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ops.bench.cpu import SAMPLE_S, Tree

WORK_MS = 300
SLACK_MS = 150
"""An interpreter starts and ends besides, and each process is counted in steps of 10 ms."""
HEAD = f"""
import os, signal, sys, time
def burn():
    while time.process_time() < {WORK_MS / 1000}: pass
def done():
    print(flush=True)
    input()
input()
"""


@contextmanager
def started(script: str) -> Iterator[subprocess.Popen[str]]:
    """Run a script that begins when it is told to, and ends when it is told so again."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-S", "-c", HEAD + script], stdin=pipe, stdout=pipe, text=True)
    try:
        yield process
    finally:
        process.communicate("\n")


def begin(process: subprocess.Popen[str]) -> None:
    """Let a script work, and return when it has."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "\n"


def test_a_child_that_has_come_and_gone_between_two_samples_counts() -> None:
    with started("if not os.fork():\n    burn(); os._exit(0)\nos.wait(); done()") as process:
        tree = Tree(process.pid)
        before = tree.ms()
        begin(process)
        assert WORK_MS - 20 <= tree.ms() - before < WORK_MS + SLACK_MS
        assert tree.by_name()["ended"] >= WORK_MS - 20
        assert tree.pids() == [process.pid]


def test_a_child_that_nobody_waits_for_counts_to_its_last_sample() -> None:
    script = f"""
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
child = os.fork()
if not child:
    burn(); time.sleep({2 * SAMPLE_S}); os._exit(0)
try: os.waitpid(child, 0)
except ChildProcessError: pass
done()
"""
    with started(script) as process, Tree(process.pid) as tree:
        before = tree.ms()
        begin(process)
        assert tree.pids() == [process.pid]
        assert WORK_MS - 20 <= tree.ms() - before < WORK_MS + SLACK_MS


def test_a_process_that_has_lost_its_parent_counts() -> None:
    script = f"""
middle = os.fork()
if not middle:
    if not os.fork():
        time.sleep({2 * SAMPLE_S}); burn(); print(flush=True); time.sleep(1); os._exit(0)
    time.sleep({1.5 * SAMPLE_S}); os._exit(0)
os.waitpid(middle, 0); input()
"""
    with started(script) as process, Tree(process.pid) as tree:
        before = tree.ms()
        begin(process)
        assert len(tree.pids()) == 2
        assert WORK_MS - 20 <= tree.ms() - before < WORK_MS + SLACK_MS


def test_what_others_do_does_not_count() -> None:
    with started("done()") as process:
        tree = Tree(process.pid)
        before = tree.ms()
        end = time.process_time() + WORK_MS / 1000
        while time.process_time() < end:
            pass
        assert tree.ms() - before <= 20
        assert sum(tree.by_name().values()) == tree.ms()
