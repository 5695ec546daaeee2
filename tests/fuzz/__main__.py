"""A campaign: `python -m tests.fuzz --inputs 1000000 [--jobs 2] [--seed 1] [--target NAME] [--json]`.

Prints one line a decoder: inputs, how many were read and refused, the slowest. Any other outcome is a failure, printed
with the command that repeats it; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.fuzz.campaign import Account, attempt, by_name, input_of, seeds_of, shares, targets, work


def repeat(name: str, seed: int, number: int) -> int:
    """One input again, with what comes of it."""
    target = by_name(name)
    data = input_of(target, seeds_of(target, seed), seed, number)
    read, wrong = attempt(target, data)
    print(f"{len(data)} bytes: {data[:400].hex()}")
    print(wrong or ("read" if read else "refused"))
    return 1 if wrong else 0


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", help="one decoder only")
    parser.add_argument("--only", type=int, help="repeat one input of --target")
    parser.add_argument("--json", action="store_true", help="one line of JSON at the end")
    given = parser.parse_args()
    if given.only is not None:
        return repeat(given.target, given.seed, given.only)
    chosen = [by_name(given.target)] if given.target else list(targets())
    jobs = [(name, count, given.seed) for name, count in shares(chosen, given.inputs)]
    started = time.monotonic()
    accounts: list[Account] = []
    # A worker that dies, or is killed for its memory, breaks the pool: that is a failure as well, and a loud one.
    with ProcessPoolExecutor(given.jobs, multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(work, job) for job in jobs]):
            account = done.result()
            accounts.append(account)
            print(
                f"{account.target:<44}{account.inputs:>9} inputs {account.read:>9} read {account.refused:>9} refused"
                f"{account.slowest_ms:>9.1f} ms at most {account.seconds:>7.1f} s",
                flush=True,
            )
            for failure in account.failures:
                print(f"FAILED {failure.command}\n{failure.what}", file=sys.stderr)
    failures = [failure for account in accounts for failure in account.failures]
    total = {
        "decoders": len(accounts),
        "inputs": sum(account.inputs for account in accounts),
        "read": sum(account.read for account in accounts),
        "refused": sum(account.refused for account in accounts),
        "failures": len(failures),
        "seed": given.seed,
        "wall_s": round(time.monotonic() - started, 1),
        "memory_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10,
    }
    for name, value in total.items():
        print(f"{name:<10}{value}")
    if given.json:
        print(json.dumps({**total, "repeat": [failure.command for failure in failures]}))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
