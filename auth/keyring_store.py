"""Who holds this key? Answered from the keyring in memory; how that is kept current: `load`,
`observe` and auth/keyring_refresh.py, which says what happens when Redis or the store is away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog

from auth import keyring as keyrings
from auth.api_key import ApiKey, mint, parse
from auth.directory import Tenant, TenantState
from auth.errors import (
    AddressNotAllowedError,
    InvalidApiKeyError,
    InvalidKeyError,
    KeyRefusal,
    KeyringUnavailableError,
    TenantDisabledError,
    UnknownPlanError,
)
from auth.keyring import KeyRecord, KeyState, address_allowed, shard_of
from auth.keyring_refresh import MAX_AGE_SECONDS, CurrentKeyring
from auth.keyring_snapshot import SnapshotReader
from auth.names import Names
from auth.plan_use import lacking_plans
from auth.plans import Plan, with_overrides
from auth.principal import Principal, SecretRole
from auth.propagation import Propagation
from auth.secrets import SecretStore
from auth.write_back import WriteBack

log = structlog.get_logger()


class KeyringStore:
    """Checks keys against the current keyring; safe to call from many threads."""

    def __init__(
        self,
        secrets: SecretStore,
        propagation: Propagation | None,
        *,
        prefix: str,
        plans: Mapping[str, Plan],
        label: str = "live",
        clock: Callable[[], float] = time.time,
        max_age_seconds: float = MAX_AGE_SECONDS,
        wanted_shards: int | None = None,
        moves: WriteBack | None = None,
    ) -> None:
        self._moves = moves
        self._unserved: str | None = None  # what plans were lacking at the start, and still are
        self._plans, self._label, self._names = plans, label, Names(prefix)
        self._keyring = CurrentKeyring(
            SnapshotReader(secrets, self._names, wanted_shards),
            propagation,
            names=self._names,
            clock=clock,
            max_age_seconds=max_age_seconds,
        )
        self._made: dict[tuple[str, SecretRole], tuple[KeyRecord, Tenant, Principal]] = {}
        self._nobody = mint(label)  # what is no key is checked as this unknown one

    def load(self) -> None:
        """Read the whole keyring. Raise KeyringUnavailableError; an earlier one is kept."""
        self._keyring.load()
        self._unserved = self._lacking_plans()
        if self._unserved is not None:
            log.error("plans.missing", reason=self._unserved)

    @property
    def ready(self) -> bool:
        """Whether keys can be checked."""
        return self.why_not_ready is None

    @property
    def why_not_ready(self) -> str | None:
        """One line for the operator; None when ready.

        A plan that the plans file lacks keeps an instance from becoming ready. Given to a tenant
        later, it closes that tenant's keys, and not the instances that serve all others.
        """
        if self._unserved is not None:
            self._unserved = self._lacking_plans()
        return self._keyring.why_not_ready() or self._unserved

    def _lacking_plans(self) -> str | None:
        held = self._keyring.snapshot
        records = [record for shard in held.shards for record in shard.value.values()]
        return lacking_plans(held.directory.value.tenants, records, self._plans)

    @property
    def problem(self) -> str | None:
        """What went wrong at the last refresh, also while the older keyring serves."""
        return self._keyring.problem

    @property
    def age_seconds(self) -> float:
        """How long ago the keyring was last known to be current; infinite before `load`."""
        return self._keyring.age_seconds

    @property
    def max_age_seconds(self) -> float:
        """How old a keyring may be that still serves."""
        return self._keyring.max_age_seconds

    def observe(self, shard: str, version: int | None) -> bool:
        """Take note of the keyring version that the limiter returned with a request.

        `shard` is the request's `Principal.keyring_shard`. Return whether a newer keyring was
        read because of it: then the request's key must be checked again.
        """
        if version is None or shard != self._names.keyring:
            return False
        return self._keyring.observe(version)

    def keys_of(self, tenant: str) -> dict[str, str]:
        """Return the names of a tenant's keys by id, revoked ones too, as held in memory."""
        return {
            record.key_id: record.name
            for shard in self._keyring.snapshot.shards
            for record in shard.value.values()
            if record.tenant == tenant
        }

    def authenticate(
        self, text: str | None, address: str, now: float, *, look_up: bool = True
    ) -> Principal:
        """Return whom a key belongs to.

        Raise InvalidKeyError, AddressNotAllowedError, TenantDisabledError, UnknownPlanError, or
        KeyringUnavailableError. Every refusal does the same work, one read of Redis included,
        whether the key was malformed, unknown, wrong or outlived. Without `look_up` a refusal
        reads nothing: for addresses that sent too many bad keys already.
        """
        if text is None:
            raise self._refused(KeyRefusal.MISSING, address, now, look_up=look_up)
        try:
            key = parse(text)
        except InvalidApiKeyError:
            raise self._refused(KeyRefusal.MALFORMED, address, now, look_up=look_up) from None
        try:
            return self._find(key, address, now, look_up=look_up)
        except InvalidKeyError as exc:
            if exc.reason in (KeyRefusal.UNKNOWN, KeyRefusal.MISMATCH):
                self._check_newest(key.key_id, exc)
            raise

    def _check_newest(self, key_id: str, error: InvalidKeyError) -> None:
        """Nobody is called unknown by a shard of which Redis has told of a newer version."""
        shard = shard_of(key_id, len(self._keyring.snapshot.shards))
        if self._keyring.behind(shard):
            raise KeyringUnavailableError("a newer keyring cannot be read") from error

    def _refused(
        self, reason: KeyRefusal, address: str, now: float, *, look_up: bool
    ) -> InvalidKeyError:
        """Return the refusal of what is no key, after the work that an unknown key costs."""
        with suppress(InvalidKeyError):
            self._find(self._nobody, address, now, look_up=look_up)
        return InvalidKeyError(reason)

    def _find(self, key: ApiKey, address: str, now: float, *, look_up: bool) -> Principal:
        self._keyring.keep_current(shard_of(key.key_id, len(self._keyring.snapshot.shards)))
        held = self._keyring.snapshot
        try:
            return self._check(key, address, now)
        except (InvalidKeyError, AddressNotAllowedError, TenantDisabledError, UnknownPlanError):
            # Whoever read the newer keyring: a refusal by one that was replaced is not final.
            if not look_up or not (self._keyring.ask_redis() or self._keyring.snapshot is not held):
                raise
        return self._check(key, address, now)

    def _check(self, key: ApiKey, address: str, now: float) -> Principal:
        if self._keyring.too_old:
            raise KeyringUnavailableError("the keyring is too old to be trusted")
        held = self._keyring.snapshot
        ring = held.shards[shard_of(key.key_id, len(held.shards))].value
        directory = held.directory.value
        peppers = directory.peppers_at(now, held.peppers)
        found = ring.verify(key.key_id, key.secret, peppers)
        if found is None:
            known = key.key_id in ring
            raise InvalidKeyError(KeyRefusal.MISMATCH if known else KeyRefusal.UNKNOWN)
        record, role = _usable(*found, now)
        if key.label != self._label or record.label != self._label:
            raise InvalidKeyError(KeyRefusal.WRONG_LABEL, record.key_id)
        tenant = directory.tenants.get(record.tenant)
        if tenant is None:
            raise InvalidKeyError(KeyRefusal.UNKNOWN, record.key_id)
        if tenant.state is not TenantState.ACTIVE:
            raise TenantDisabledError(tenant.name, record.key_id)
        plan = self._plans.get(record.plan or tenant.plan)
        if plan is None:
            raise UnknownPlanError(record.plan or tenant.plan, record.key_id)
        if not address_allowed(address, record.allowed_cidrs):
            raise AddressNotAllowedError(record.key_id)
        used = found[0].secrets[-1 if found[1] is SecretRole.NEW else 0]
        if used.pepper_id != directory.pepper_id and self._moves is not None:
            self._moves.note(
                *(key.key_id, len(held.shards), used, key.secret),
                pepper_id=directory.pepper_id,
                pepper=held.peppers[directory.pepper_id],
            )
        rotation = record.rotation
        if role is SecretRole.NEW and rotation is not None and rotation.first_used_at is None:
            self._note_first_use(record.key_id, len(held.shards), rotation.started_at, now)
        return self._principal(record, role, tenant, plan, held.pointer)

    def _note_first_use(self, key_id: str, shards: int, started_at: int, now: float) -> None:
        if self._moves is not None:
            self._moves.note_first_use(key_id, shards, started_at, now)

    def _principal(
        self, record: KeyRecord, role: SecretRole, tenant: Tenant, plan: Plan, pointer: int
    ) -> Principal:
        """Return what the record becomes: made once for each record, not for each request."""
        made = self._made.get((record.key_id, role))
        if made is not None:
            of_record, of_tenant, principal = made
            same = of_record is record and of_tenant is tenant
            if same and principal.keyring_version == pointer:
                return principal
        principal = Principal(
            key_id=record.key_id,
            name=record.name,
            tenant=record.tenant,
            plan=with_overrides(plan, record.limits),
            scopes=record.scopes,
            label=record.label,
            expires_at=record.expires_at,
            allowed_cidrs=record.allowed_cidrs,
            created_at=record.created_at,
            secret_role=role,
            rotation=record.rotation,
            keyring_shard=self._names.keyring,
            keyring_version=pointer,
            caps=tenant.caps,
        )
        self._made[record.key_id, role] = (record, tenant, principal)
        return principal


def _usable(record: KeyRecord, role: SecretRole, now: float) -> tuple[KeyRecord, SecretRole]:
    """Return the record and its secret's role as of `now`. Raise InvalidKeyError."""
    if record.state is not KeyState.ACTIVE:
        raise InvalidKeyError(KeyRefusal.REVOKED, record.key_id)
    if record.expires_at is not None and now >= record.expires_at:
        raise InvalidKeyError(KeyRefusal.EXPIRED, record.key_id)
    current = keyrings.settled(record, now)
    if current.rotation is not None:
        return current, role
    if role is SecretRole.OLD:
        raise InvalidKeyError(KeyRefusal.ROTATED_OUT, record.key_id)
    return current, SecretRole.ONLY
