"""`python -m tests.hostile --examples 100000`: so many hostile expressions against the expressions alone.

--engine      in real services beside a canary instead
--here        only what the engine itself does with them, which is quick: no pool and no comparison
--seed N      another start; without it that of the day
--seconds S   no more examples after so many seconds (not with --engine)
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from tests.hostile.engine import draw, run_in_engine
from tests.hostile.run import run, seed_of_the_day
from tests.processes import System


def main() -> None:
    """Run and print what came of it. Ends with the first expression that is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile")
    parser.add_argument("--examples", type=int, default=100_000)
    parser.add_argument("--engine", action="store_true")
    parser.add_argument("--here", action="store_true")
    parser.add_argument("--seed", type=int, default=seed_of_the_day())
    parser.add_argument("--seconds", type=float, default=float("inf"))
    options = parser.parse_args()
    started = time.monotonic()
    if options.engine:
        told = asyncio.run(_in_engine(options.examples, options.seed))
    else:
        told = str(run(options.examples, options.seed, options.seconds, only_here=options.here))
    print(f"seed {options.seed}, {time.monotonic() - started:.0f} s\n{told}")


async def _in_engine(examples: int, start: int) -> str:
    drawn = draw(examples, start)
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        async with System(Path(folder)) as system:
            return str(await run_in_engine(system, drawn))


if __name__ == "__main__":
    main()
