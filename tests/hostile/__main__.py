"""`python -m tests.hostile --examples 100000`: so many hostile expressions against the expressions alone.

--seed N      another start; without it that of the day
--seconds S   no more examples after so many seconds
"""

from __future__ import annotations

import argparse
import time

from tests.hostile.run import run, seed_of_the_day


def main() -> None:
    """Run and print what came of it. Ends with the first expression that is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile")
    parser.add_argument("--examples", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=seed_of_the_day())
    parser.add_argument("--seconds", type=float, default=float("inf"))
    options = parser.parse_args()
    started = time.monotonic()
    tally = run(options.examples, options.seed, options.seconds)
    print(f"seed {options.seed}, {time.monotonic() - started:.0f} s\n{tally}")


if __name__ == "__main__":
    main()
