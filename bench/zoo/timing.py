"""Times of calls that alternate, so that what else the machine does falls on all alike."""

import statistics
import time


def time_in_turn(ways, seconds=0, rounds=5):
    """{way: median ms of a call}, each way called once per round, for `seconds` and at least
    `rounds`; three calls of each come before."""
    for fn in ways.values():
        for _ in range(3):
            fn()
    times = {way: [] for way in ways}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["eager"]) < rounds:
        for way, fn in ways.items():
            start = time.perf_counter()
            fn()
            times[way].append((time.perf_counter() - start) * 1e3)
    return {way: statistics.median(ms) for way, ms in times.items()}
