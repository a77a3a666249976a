"""Thermal drone flights with exact ground truth, for the demo, drills and tests.

Belongs here: scenarios, what they render to and the truth about it. Not here: anything that looks at
footage; the simulator knows none of the stages, so that its truth is independent of them.
"""

from outwatch.simulate.cases import GroundCase, ground_cases
from outwatch.simulate.flight import SimulatedFlight, simulate
from outwatch.simulate.scenario import PoseNoise, Scenario, load_scenario, parse_scenario, shipped_scenarios

__all__ = [
    "GroundCase",
    "PoseNoise",
    "Scenario",
    "SimulatedFlight",
    "ground_cases",
    "load_scenario",
    "parse_scenario",
    "shipped_scenarios",
    "simulate",
]
