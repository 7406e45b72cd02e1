"""What a pod does before it ends, as its preStop hook.

    pre_stop.py end PROGRAM SECONDS   sends SIGTERM to the Python program, then waits for its end
    pre_stop.py wait TITLE SECONDS    waits while a process has a title that begins so

Pods of a run that is suspended or deleted are told to end all at once. The head asks the driver for
a last checkpoint, and workers stay for it. Either way the hook gives up after SECONDS, which leaves
the rest of the pod's grace period to Ray. `ray job stop` is no substitute: a job that it stopped
counts as complete, and KubeRay does not retry it.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

_POLL_SECONDS = 0.2


def main(action: str, name: str, seconds: str) -> None:
    """Run the hook; SECONDS is the longest it takes."""
    deadline = time.monotonic() + float(seconds)
    matches = {"end": _runs_program, "wait": _has_title}[action]
    asked: set[int] = set()
    while (found := _processes(matches, os.fsencode(name))) and time.monotonic() < deadline:
        for pid in found - asked if action == "end" else ():
            # Once each: who is told again may take it for impatience and drop the checkpoint.
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
            asked.add(pid)
        time.sleep(_POLL_SECONDS)


def _processes(matches: Callable[[list[bytes], bytes], bool], name: bytes) -> set[int]:
    """Ids of the processes whose command line matches. A process that has ended has none."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                command_line = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if matches(command_line.split(b"\0"), name):
                found.add(int(folder.name))
    return found


def _runs_program(arguments: list[bytes], program: bytes) -> bool:
    """Whether it is `python .../program`: never the shell around it, whose end Ray would take for
    the job's."""
    return len(arguments) > 1 and arguments[1].rpartition(b"/")[2] == program


def _has_title(arguments: list[bytes], title: bytes) -> bool:
    return arguments[0].startswith(title)


if __name__ == "__main__":
    main(*sys.argv[1:])
