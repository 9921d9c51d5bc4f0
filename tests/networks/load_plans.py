"""Load plans in a process of its own and run them: python load_plans.py FOLDER, with NAME.plan and NAME.npz in it.

NAME.npz holds feeds as ``<feed>/<input>``; the answers go to NAME.out.npz as ``<feed>/<output>``.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from tenonrt import Engine, ExecutionContext

for plan in sorted(Path(sys.argv[1]).glob("*.plan")):
    feeds = defaultdict(dict)
    with np.load(plan.with_suffix(".npz")) as archive:
        for key in archive.files:
            feed, _, name = key.partition("/")
            feeds[feed][name] = archive[key]
    context = ExecutionContext(Engine.load(plan))
    answers = {
        f"{feed}/{name}": array for feed, given in feeds.items() for name, array in context.execute(given).items()
    }
    np.savez(plan.with_suffix(".out.npz"), **answers)
