"""What can be earned by what is only said, what it costs to act, and what each rule of the price run is for.

In: intervals of a played day, or markets of a network (`scene`), and tricks (`strategy`). Out: what each earns at the
gate's prices and by the price run (`stage`).
"""

from tellegen.assess.tricks.scene import Scene, drawn, recorded
from tellegen.assess.tricks.stage import Amounts, Stage
from tellegen.assess.tricks.strategy import TRICKS, Claim, Trick, Withheld, random_trick

__all__ = ["TRICKS", "Amounts", "Claim", "Scene", "Stage", "Trick", "Withheld", "drawn", "random_trick", "recorded"]
