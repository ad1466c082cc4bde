"""What an evaluation keeps of its clips from one attack to the next: as much as memory should bear, the rest is made again."""

from collections.abc import Callable
from dataclasses import dataclass, field

from avrobust.engine import Victim


@dataclass
class Kept:
    """Victims by the number of their batch, for as long as they hold no more than `limit` numbers together.

    The first batches are kept: the victims of others are made anew each time, of the same clips, so with the same numbers.
    """

    limit: int
    held: int = 0
    _victims: dict[int, Victim] = field(default_factory=dict)

    def get(self, batch: int, make: Callable[[], Victim]) -> Victim:
        """The victim of this batch: the one that was kept, or what `make` makes."""
        if batch not in self._victims:
            made = make()
            if self.held + made.cached > self.limit:
                return made
            self._victims[batch], self.held = made, self.held + made.cached
        return self._victims[batch]
