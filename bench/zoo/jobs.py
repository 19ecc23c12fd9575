"""Models measured in processes of their own, several at once.

In:  names. Out: a row for each, as it is done. A process that ends early, or takes too long, is a
     row that says so; one whose library is missing is a row that was skipped.
"""

import collections
import importlib.util
import multiprocessing
import os
import time
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path

from . import MODELS
from .machine import describe_machine
from .measure import measure
from .rows import SKIPPED

PRELOADED = ("torchvision", "timm", "transformers.modeling_utils", "diffusers.models")
FORKS = multiprocessing.get_context("forkserver")  # of a process that has imported, not computed


@dataclass
class _Job:
    name: str
    slot: int
    process: multiprocessing.Process
    errors: Path  # what it printed
    deadline: float


def run(names, args, tell):
    """Yields rows. `args`: jobs, threads, rounds, limit, folder; `tell` gets a line of progress."""
    path = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))  # of the fork server
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    FORKS.set_forkserver_preload([__name__, *PRELOADED])
    waiting, running, free = collections.deque(names), {}, list(range(args.jobs))
    try:
        while waiting or running:
            while waiting and free:
                name = waiting.popleft()
                if not importlib.util.find_spec(MODELS[name].library):
                    yield _unmeasured(name, args, SKIPPED, f"no {MODELS[name].library} here")
                    continue
                receiver, job = _start(name, free.pop(), args)
                running[receiver] = job
            tell(f"{len(waiting)} wait; {', '.join(job.name for job in running.values())}")
            ready = connection.wait(running, timeout=1)
            late = [r for r, job in running.items() if time.monotonic() > job.deadline]
            for receiver in {*ready, *late}:
                job = running.pop(receiver)
                free.append(job.slot)
                yield _finish(job, receiver if receiver in ready else None, args)
    finally:
        for job in running.values():
            job.process.kill()
            job.errors.unlink(missing_ok=True)


def _start(name, slot, args):
    errors = args.folder / f"{name}.txt"
    errors.write_text("")
    receiver, sender = FORKS.Pipe(duplex=False)
    cores = sorted(os.sched_getaffinity(0))
    mine = cores[slot * args.threads :][: args.threads] if args.jobs > 1 else cores
    process = FORKS.Process(target=_work, args=(name, args.rounds, mine or cores, errors, sender))
    process.start()
    sender.close()
    return receiver, _Job(name, slot, process, errors, time.monotonic() + args.limit)


def _work(name, rounds, cores, errors, sender):
    os.sched_setaffinity(0, cores)
    with errors.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sender.send(measure(name, rounds))


def _finish(job, receiver, args):
    try:
        row = receiver.recv() if receiver else None
        reason = f"took longer than {args.limit} s"
    except EOFError:
        row = None
        job.process.join()
        last = (job.errors.read_text().strip().splitlines() or ["no message"])[-1]
        reason = f"the process ended with code {job.process.exitcode}: {last}"[:400]
    job.process.join(10 if row else 0)
    job.process.kill()
    job.process.join()
    if row:
        job.errors.unlink()
    return row or _unmeasured(job.name, args, "crash", reason)


def _unmeasured(name, args, status, reason):
    machine = describe_machine(args.threads)
    return {"model": name, "machine": machine, "status": status, "reason": reason}
