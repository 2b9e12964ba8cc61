"""Objectives: how the gradients of several losses become one, where they meet."""

from caffepy.solver.objectives.base import Objective, Seen, objective

__all__ = ["Objective", "Seen", "objective"]
