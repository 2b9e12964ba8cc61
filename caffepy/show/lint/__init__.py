"""What definitions would do, found out before they are run: `caffepy check`. One rule a function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from caffepy.show.draft import Sources
from caffepy.show.draft.deploys import silence
from caffepy.show.draft.sources import check_names
from caffepy.show.lint.finding import Finding
from caffepy.show.lint.reviews import Review, Reviewer

__all__ = ["Finding", "Review", "check"]


def check(
    files: Sequence[str], shapes: Mapping[str, tuple[int, ...]] | None = None, weights: Sequence[str] = ()
) -> list[Review]:
    """Read nets and solvers, build what they define without their data, and tell what is found, file by file.

    `shapes` are those of sources' tops, by name. Raises ConfigError for a name that no source has.
    """
    given = dict(shapes or {})
    reviewer = Reviewer(lambda: Sources(given, near=files), list(weights))
    with silence():  # of what is among the findings
        reviews = [reviewer.review(file) for file in files]
    check_names(given, reviewer.tops)
    return reviews
