"""Biases over time (Koren 2009): an item's in each of some bins, a user's drift, and what a single day adds."""

from __future__ import annotations

import numpy as np

from caffepy.proto.caffe_pb2 import FactorsParameter
from caffepy.recommend.factors import Rates
from caffepy.recommend.history import UserHistory


class Clock:
    """Where each rating lies in time: its item's bin, its user's distance from the mean day, its user's day."""

    def __init__(self, p: FactorsParameter, history: UserHistory):
        self.power, self.bins = p.drift_power, p.bins
        day = history.day
        self.first, self.last = (int(day.min()), int(day.max())) if len(day) else (0, 0)
        sums = np.bincount(history.user, day, minlength=history.num_users)
        self.mean_day = sums / np.maximum(history.user_counts, 1)
        self.span = self.last + 1
        self.days = np.unique(history.user * self.span + day)
        """The numbers user * span + day of all days on which a user has rated."""
        self.bin_of_row = self.bin(history.item, day)
        self.drift_of_row = self.drift(history.user, day)
        self.day_of_row, _ = self.user_day(history.user, day)

    def bin(self, item: np.ndarray, day: np.ndarray) -> np.ndarray:
        """The number item * bins + bin; what lies behind the last day is in the last bin."""
        day = np.clip(day, self.first, self.last) - self.first
        return item * self.bins + day * self.bins // (self.last - self.first + 1)

    def drift(self, user: np.ndarray, day: np.ndarray) -> np.ndarray:
        """sign(d) |d|^power, d days from the mean day of the user."""
        distance = np.clip(day, self.first, self.last) - self.mean_day[user]
        return (np.sign(distance) * np.abs(distance) ** self.power).astype(np.float32)

    def user_day(self, user: np.ndarray, day: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of `days` it is, and whether it is one of them at all."""
        number = user * self.span + day
        place = np.minimum(np.searchsorted(self.days, number), max(0, len(self.days) - 1))
        return place, (self.days[place] == number) & (day < self.span)


class Times:
    """Biases of item bins (I, bins), slopes of users (U,), biases of users' days (D,)."""

    def __init__(self, clock: Clock, bins: np.ndarray, slopes: np.ndarray, days: np.ndarray):
        self.clock, self.bins, self.slopes, self.days = clock, bins.reshape(-1), slopes, days
        self.user_of_day = clock.days // clock.span

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """What time adds to the prediction of these ratings, which are of one user."""
        clock = self.clock
        slope = self.slopes[self.user_of_day[clock.day_of_row[rows[0]]]]
        return self.bins[clock.bin_of_row[rows]] + slope * clock.drift_of_row[rows] + self.days[clock.day_of_row[rows]]

    def step(self, p: FactorsParameter, r: Rates, rows: np.ndarray, error: np.ndarray) -> None:
        """Move towards the ratings of one user, which are of different items."""
        clock = self.clock
        at, day, drift = clock.bin_of_row[rows], clock.day_of_row[rows], clock.drift_of_row[rows]
        self.bins[at] += r.rate * (error - np.float32(p.reg_bins) * self.bins[at])
        np.add.at(self.days, day, r.rate * (error - np.float32(p.reg_days) * self.days[day]))
        user, rate = self.user_of_day[day[0]], np.float32(p.drift_learning_rate)
        self.slopes[user] += rate * (error @ drift - len(rows) * r.biases * self.slopes[user])

    def of(self, user: np.ndarray, item: np.ndarray, day: np.ndarray) -> np.ndarray:
        """What time adds for pairs on any day."""
        place, known = self.clock.user_day(user, day)
        drift = self.slopes[user] * self.clock.drift(user, day)
        return self.bins[self.clock.bin(item, day)] + drift + self.days[place] * known
