"""Times what it is told to make: reads lines of JSON and answers each with one, until its input ends."""

import json
import sys
import time


def serve(make):
    """make: what was told -> {name of a way: a function that runs it}. {"time": 3} times so many calls of each."""
    steps = {}
    for line in sys.stdin:
        told = json.loads(line)
        if "time" not in told:
            steps = make(told)
            for name in list(steps):
                try:
                    steps[name]()
                    steps[name]()
                except Exception as error:  # no C++ compiler for inductor, say
                    print(f"{name}: {type(error).__name__}", file=sys.stderr)
                    del steps[name]
            print("{}", flush=True)
            continue
        seconds = {}
        for name, step in steps.items():
            began = time.perf_counter()
            for _ in range(told["time"]):
                step()
            seconds[name] = (time.perf_counter() - began) / told["time"]
        print(json.dumps(seconds), flush=True)
