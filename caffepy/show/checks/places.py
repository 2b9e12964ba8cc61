"""Whether a layer may run in place."""

from __future__ import annotations

from caffepy.errors import CaffeError
from caffepy.show.checks.subject import Fails, Skipped, Subject, check_same


def in_place(subject: Subject) -> str:
    """With a bottom as top: the same values, and the same gradients; or the layer says that it cannot."""
    apart = subject.build()
    if not apart.bottom or not apart.top or apart.bottom[0].shape != apart.top[0].shape:
        raise Skipped("the top has another shape than the bottom")
    try:
        within = subject.build(in_place=True)
    except CaffeError as error:
        return f"refused: {error.message}"
    expected = subject.forward(apart)
    check_same(subject.forward(within), expected, "in place it", "else", 1e-5)
    if type(apart.layer).in_place == "forward":
        return "the same values; it says that its gradient is another then"
    try:
        gradients = subject.backward(apart, expected)
    except Skipped:
        return "the same values"
    try:
        check_same(subject.backward(within, expected), gradients, "in place backward", "else", 1e-4)
    except Fails as reason:
        hint = 'Keep what backward needs, or say in the class: in_place = "refused"'
        raise Fails(f"{reason}. {hint}") from None
    return "the same values and gradients"
