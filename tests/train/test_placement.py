"""Where the members of a population run: what is named, and what is measured."""

import pytest
from etude import train


def test_the_fastest_placement_is_chosen_by_its_measured_time():
    devices, vmap = train.placement("devices", 16), train.placement("vmap", 16)
    seconds = {devices: 3e-2, vmap: 1e-2}
    clock = FakeClock()

    def probe(where):
        return lambda steps: clock.sleep(seconds[where] * steps)

    assert train.fastest_placement(probe, 16, steps=10_000, clock=clock) == vmap
    seconds[vmap] = 9e-2
    assert train.fastest_placement(probe, 16, steps=10_000, clock=clock) == devices


def test_a_short_run_does_not_measure_what_could_not_pay():
    clock, asked = FakeClock(), []

    def probe(where):
        asked.append(where)
        return lambda steps: clock.sleep(2.0 if len(clock.slept) == 0 else 1e-3 * steps)

    assert train.fastest_placement(probe, 16, steps=100, clock=clock) == train.placement("devices", 16)
    assert len(asked) == 1


class FakeClock:
    def __init__(self):
        self.now, self.slept = 0.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: train.placement("pmap", 4), "'pmap'; valid are auto, vmap, map, devices"),
        (lambda: train.placement("vmap", 4, chunk=0), "chunk is 0"),
    ],
)
def test_placements_that_do_not_exist_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
