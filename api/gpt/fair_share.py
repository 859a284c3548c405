"""What each tenant is owed of one service: its weight's part of all that is done while it has work.

Deficits as in deficit round robin (Shreedhar and Varghese, SIGCOMM 1995), but carried from one
piece of work to the next instead of filled up in rounds: as in start-time fair queueing (Goyal, Vin
and Cheng, SIGCOMM 1996) a tenant goes on by its work divided by its weight, the least is served
first, and the time of all is where the last of those stands who want more than they get. It never
goes back, so nobody stands far behind or before it for what was done while nobody had to wait.

Who comes back is owed what the others did meanwhile, up to `saved`; what it had too much, while
others had to wait, is not forgotten. Pure bookkeeping, of whoever calls it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(slots=True)
class _Account:
    weight: int
    stands: float  # work done, for each of its weight


class FairShare:
    """Tenants that have work have joined. Work is in tokens."""

    def __init__(self, *, saved: int) -> None:
        """saved: the most that a tenant can be owed for what it did not want."""
        self._saved, self._time = saved, 0.0
        self._accounts: dict[str, _Account] = {}
        self._away: dict[str, float] = {}  # where those stood who left, while it matters

    def join(self, tenant: str, weight: int) -> None:
        """Note that a tenant has work, of this weight from now on."""
        weight = max(1, weight)
        if account := self._accounts.get(tenant):
            account.weight = weight
            return
        # Who is not known was away for long, or all the time: then nobody did more than the rest.
        stands = max(self._time - self._saved / weight, self._away.pop(tenant, 0.0))
        self._accounts[tenant] = _Account(weight, stands)

    def leave(self, tenant: str) -> None:
        self._away[tenant] = self._accounts.pop(tenant).stands
        past = self._time - self._saved
        self._away = {name: stands for name, stands in self._away.items() if stands > past}

    def charge(self, tenant: str, work: int) -> None:
        """Note work that is done for a tenant."""
        account = self._accounts[tenant]
        account.stands += work / account.weight

    def compete(self, tenants: Collection[str]) -> None:
        """Note who wants more than it gets, of those that have joined.

        Nobody is owed more than `saved` for what it did not want; and where nobody has to wait,
        nobody has too much.
        """
        accounts = self._accounts.values()
        if tenants:
            reached = min(self._accounts[tenant].stands for tenant in tenants)
        else:
            reached = max((each.stands for each in accounts), default=self._time)
        self._time = max(self._time, reached)
        for each in accounts:
            each.stands = max(each.stands, self._time - self._saved / each.weight)

    def weight(self, tenant: str) -> int:
        return self._accounts[tenant].weight

    def stands(self, tenant: str) -> float:
        """Return how far a tenant is. The least is served first."""
        return self._accounts[tenant].stands
