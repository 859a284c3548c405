"""What each tenant is owed of one service: its weight's part of all that is done while it has work.

Deficits as in deficit round robin (Shreedhar and Varghese, SIGCOMM 1995), but carried from one
piece of work to the next instead of filled up in rounds: as in weighted fair queueing (Demers,
Keshav and Shenker, SIGCOMM 1989) a tenant goes on by its work divided by its weight. Whoever stands
behind the mean of all that have work is owed the difference, whoever stands before it had too much.

Who comes back is owed what the others did meanwhile, up to `saved`; what it had too much is not
forgotten. Pure bookkeeping, of whoever calls it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Account:
    weight: int
    stands: float  # work done, for each of its weight


class FairShare:
    """Tenants that have work have joined. Work is in tokens."""

    def __init__(self, *, saved: int) -> None:
        """saved: the most that a tenant can be owed for what it did not want."""
        self._saved, self._last = saved, 0.0  # the latter: the mean when all had left
        self._accounts: dict[str, _Account] = {}
        self._away: dict[str, float] = {}  # where those stood who left, while it matters

    def join(self, tenant: str, weight: int) -> None:
        """Note that a tenant has work, of this weight from now on."""
        weight = max(1, weight)
        if account := self._accounts.get(tenant):
            account.weight = weight
            return
        earliest = self._mean() - self._saved / weight
        stands = max(earliest, self._away.pop(tenant, earliest))
        self._accounts[tenant] = _Account(weight, stands)

    def leave(self, tenant: str) -> None:
        self._last = self._mean()
        self._away[tenant] = self._accounts.pop(tenant).stands
        past = self._last - self._saved
        self._away = {name: stands for name, stands in self._away.items() if stands > past}

    def charge(self, tenant: str, work: int) -> None:
        """Note work that is done for a tenant."""
        account = self._accounts[tenant]
        account.stands += work / account.weight

    def has_enough(self, tenant: str) -> None:
        """Note that a tenant has all it wants: it is owed no more than one that comes back."""
        account = self._accounts[tenant]
        account.stands = max(account.stands, self._mean() - self._saved / account.weight)

    def weight(self, tenant: str) -> int:
        return self._accounts[tenant].weight

    def stands(self, tenant: str) -> float:
        """Return how far a tenant is. The least is served first."""
        return self._accounts[tenant].stands

    def _mean(self) -> float:
        accounts = self._accounts.values()
        whole = sum(each.weight for each in accounts)
        return sum(each.weight * each.stands for each in accounts) / whole if whole else self._last
