"""A queue in which organizations take turns, so that a crowd of one does not hold up the others."""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """First come, first served within an organization; between them one each in turn.

    Args:
        capacity: How many may wait; not given: any number. An organization that has less than its
            equal part of it waiting is let in even when others have filled it.
    """

    def __init__(self, capacity: int = sys.maxsize) -> None:
        self._capacity = capacity
        self._queues: OrderedDict[int, deque[T]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, organization_id: int, item: T) -> bool:
        """Let an item wait; False: there is no room for it."""
        queue = self._queues.get(organization_id)
        if self._count >= self._capacity:
            organizations = len(self._queues) + (queue is None)
            if len(queue or ()) >= self._capacity // organizations:
                return False
        if queue is None:
            queue = self._queues[organization_id] = deque()
        queue.append(item)
        self._count += 1
        return True

    def first(self) -> T:
        """Return whose turn it is; somebody must wait."""
        return next(iter(self._queues.values()))[0]

    def heads(self) -> list[T]:
        """Return the item of each organization that has waited longest."""
        return [queue[0] for queue in self._queues.values()]

    def take(self) -> T:
        """Take whose turn it is; the next turn is another organization's. Somebody must wait."""
        organization_id, queue = next(iter(self._queues.items()))
        item = queue.popleft()
        self._count -= 1
        if queue:
            self._queues.move_to_end(organization_id)
        else:
            del self._queues[organization_id]
        return item
