"""All kinds of file and request that are mutated."""

from tests.campaign import requests, texts
from tests.campaign.kinds import KINDS

__all__ = ["KINDS", "requests", "texts"]
