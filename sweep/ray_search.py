"""A Tune searcher that suggests packs: those that are planned, then those of the next rounds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ray.tune.search import Searcher


class PackSearcher(Searcher):  # type: ignore[misc]
    """Suggests every pack once. When none is left it waits for trials to end, and asks for more.

    packs: numbers that are known. grow: plans what can be planned, returns the numbers of the new
    packs. opened: takes the numbers of packs that are still to end.

    What it knows lies in the sweep's folder, so nothing is kept for Tune's own restore.
    """

    def __init__(
        self, packs: Iterable[int], grow: Callable[[], list[int]], opened: set[int]
    ) -> None:
        super().__init__()
        self.over = False
        self._waiting = deque(packs)
        self._grow, self._opened = grow, opened
        self._training: set[str] = set()
        self._asked = True

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles searchers, and what `grow` holds cannot be."""
        return {}

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Tune's question whether its metric is of use; there is none."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next pack's number; None while a round has to be waited for; FINISHED at the end."""
        if not self._waiting and not self._asked:
            self._asked = True  # nothing new before another trial ends
            new = self._grow()
            self._waiting.extend(new)
            self._opened.update(new)
        if self._waiting:
            self._training.add(trial_id)
            return {"pack": self._waiting.popleft()}
        if self._training:
            return None
        self.over = True
        return str(Searcher.FINISHED)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A pack's trial has ended, well or not."""
        self._training.discard(trial_id)
        self._asked = False

    def save(self, checkpoint_path: str) -> None:
        """Nothing is kept: `resume` reads the sweep's folder."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing was kept."""
