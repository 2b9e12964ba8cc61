"""Solver: the training loop, learning-rate policies, update rules and snapshots."""

from caffepy.solver.solver import Solver, get_solver

__all__ = ["Solver", "get_solver"]
