"""Compares models on the user's own machine: what each costs on a picture, and how its answers agree with others'.

    with contest(["nano", "mobile_sam.pt"]) as models:
        costs = photo(models, image, Plan(prompt={"points": [[220, 110]], "labels": [1]}))

`samlet compare` is the command for it.
"""

from samlet.compare.contestants import Contest, Contestant, Reply, Setup, contest
from samlet.compare.measure import Cost, Plan, Scores, on_set, photo, photo_agreement
from samlet.compare.report import Comparison

__all__ = [
    "Comparison",
    "Contest",
    "Contestant",
    "Cost",
    "Plan",
    "Reply",
    "Scores",
    "Setup",
    "contest",
    "on_set",
    "photo",
    "photo_agreement",
]
