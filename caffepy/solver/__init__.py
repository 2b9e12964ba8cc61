"""Solver: the training loop and its events, tests, learning-rate policies, update rules and snapshots."""

from caffepy.solver.events import Action, Listener
from caffepy.solver.solver import Solver

__all__ = ["Action", "Listener", "Solver"]
