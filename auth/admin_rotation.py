"""Rotation of a key: a new secret that works at once, beside the old one until that one ends.

The whole key is in the answer of `rotate` and nowhere else. A key that the web app forwards for
somebody changes in the web app's store in the same operation, or is not rotated at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from auth.admin_context import AdminContext
from auth.admin_key_records import KeyRecords, stored
from auth.api_key import ApiKey, digest, mint, parse
from auth.errors import AdminRefusedError, AuthError, InvalidApiKeyError
from auth.keyring import KeyRecord, KeyRing, StoredSecret, settled
from auth.principal import Rotation, SecretRole
from auth.secrets import SecretStoreError
from auth.users import WEB_KEY_SECONDS
from auth.views import DAY_SECONDS, old_secret_ends, state_of

DEADLINE_SECONDS = 7 * DAY_SECONDS
GRACE_SECONDS = 3600
MAX_DEADLINE_SECONDS = 90 * DAY_SECONDS


class KeyRotations:
    """Begins and takes back rotations; AdminRefusedError says why not."""

    def __init__(self, context: AdminContext, records: KeyRecords) -> None:
        self._context, self._records = context, records

    def rotate(
        self,
        key_id: str,
        *,
        deadline_seconds: int = DEADLINE_SECONDS,
        grace_seconds: int = GRACE_SECONDS,
        force: bool = False,
        web_copy: bool = False,
        by: str | None = None,
    ) -> dict[str, Any]:
        """Give a key a new secret; the answer holds the whole key, for the only time.

        `by` is the whole key of a holder who asks for it. The old secret of a rotation does not
        rotate: it may be what leaked, and would take the key from whoever has the new one.

        The old secret works until `grace_seconds` after the first use of the new one, and never
        past the deadline; a deadline of 0 ends it at once. While two secrets live, another
        rotation is refused unless forced: then the older of the two ends now. With `web_copy` the
        caller keeps the new key for the web users it is forwarded for.
        """
        context, now = self._context, self._context.now()
        if not 0 <= deadline_seconds <= MAX_DEADLINE_SECONDS:
            raise AdminRefusedError(f"a deadline is at most {MAX_DEADLINE_SECONDS // DAY_SECONDS}d")
        if not 0 <= grace_seconds <= MAX_DEADLINE_SECONDS:
            raise AdminRefusedError(f"a grace is at most {MAX_DEADLINE_SECONDS // DAY_SECONDS}d")
        directory = context.directory()
        forwarded_for = self._forwarded_for(context.record(directory, key_id), web_copy=web_copy)
        key = mint(context.label, key_id)
        pepper_id = directory.pepper_id
        minted = stored(key, pepper_id, context.pepper(pepper_id), now)
        holder = None if by is None else parse(by)
        peppers = {one: context.pepper(one) for one in directory.pepper_ids} if holder else {}
        begun: list[KeyRecord] = []

        def changed(record: KeyRecord) -> KeyRecord:
            if holder is not None:
                _check_holder(record, holder, peppers)
            if state_of(record, now) != "active":
                raise AdminRefusedError(f"key {key_id} is {state_of(record, now)}")
            self._records.check_not_marked(record)
            current = self._settled(record, now)
            if current.rotation is not None and not force:
                raise AdminRefusedError(
                    f"key {key_id} has two live secrets: wait for the old one to end, cancel the "
                    f"rotation, or {'use --force' if by is None else 'send force: true'} "
                    "to end the old one now"
                )
            begins = _begins(record, now)
            new = replace(minted, created_at=begins)
            if deadline_seconds == 0:
                return replace(current, secrets=(new,), rotation=None)
            rotation = Rotation(begins, now + deadline_seconds, grace_seconds)
            rotating = replace(current, secrets=(current.secrets[-1], new), rotation=rotation)
            begun[:] = [rotating]
            return rotating

        view = {"key": key.reveal(), **self._records.change(key_id, "key.rotate", changed)}
        for rotating in begun:  # nobody has the new secret yet: no use of it can come before
            self._records.rotation_begun(rotating)
        return self._kept(view, forwarded_for, lambda _: key.reveal())

    def cancel(self, key_id: str, *, web_copy: bool = False) -> dict[str, Any]:
        """Take back a new secret that was never used; the old one is the only one again."""
        context, now = self._context, self._context.now()
        record = context.record(context.directory(), key_id)
        forwarded_for = self._forwarded_for(record, web_copy=web_copy, earlier=True)
        old: list[StoredSecret] = []

        def changed(record: KeyRecord) -> KeyRecord:
            current = settled(record, now)
            if current.rotation is None:
                raise AdminRefusedError(f"key {key_id} is not being rotated")
            self._records.check_not_marked(record)
            if self._records.first_use(current, needed=True) is not None:
                raise AdminRefusedError(f"the new secret of key {key_id} has been used")
            old[:] = [current.secrets[0]]
            return replace(current, secrets=(current.secrets[0],), rotation=None)

        view = self._records.change(key_id, "key.cancel-rotation", changed)
        return self._kept(view, forwarded_for, lambda user: self._kept_key(user, old[0]))

    def _settled(self, record: KeyRecord, now: int) -> KeyRecord:
        """Return the record without a rotation that is over, by deadline or by grace."""
        current = settled(record, now)
        ends = old_secret_ends(current, self._records.first_use(current))
        if ends is None or now < ends:
            return current
        return replace(current, secrets=current.secrets[-1:], rotation=None)

    def _forwarded_for(
        self, record: KeyRecord, *, web_copy: bool, earlier: bool = False
    ) -> tuple[str, ...]:
        """Return the web users whose copy of the key has to change with it, by us.

        Raise AdminRefusedError before anything changes if this identity may not write them.
        """
        if web_copy:
            return ()
        for user in record.forwarded_for:
            if not self._context.users.may_keep(user, earlier=earlier):
                raise AdminRefusedError(
                    f"the web app forwards key {record.key_id} for {user}, and its copy cannot be "
                    "changed from here: rotate it on the web app's pages, or with "
                    "`python -m auth keys rotate` on the secret store"
                )
        return record.forwarded_for

    def _kept(
        self,
        view: dict[str, Any],
        users: tuple[str, ...],
        key_for: Callable[[str], str | None],
    ) -> dict[str, Any]:
        """Keep another key for the web users who use this one, so that they notice nothing."""
        try:
            for user in users:
                key = key_for(user)
                if key is not None:
                    self._context.users.keep_key(user, key)
        except (SecretStoreError, AuthError) as exc:
            # The key has changed and must be shown; only the web app still has the other one.
            warning = (
                f"the web app's copy of the key could not be changed ({exc}): "
                f"give it the key with `users assign-key` before the old secret ends"
            )
            return view | {"warnings": [*view.get("warnings", []), warning]}
        return view | ({"web_app_sees_within_seconds": WEB_KEY_SECONDS} if users else {})

    def _kept_key(self, user: str, secret: StoredSecret) -> str | None:
        """Return the kept key of a user whose secret this is."""
        pepper = self._context.pepper(secret.pepper_id)
        for text in self._context.users.kept_keys(user):
            with suppress(InvalidApiKeyError):
                if digest(parse(text).secret, pepper) == secret.digest:
                    return text
        return None


def _begins(record: KeyRecord, now: int) -> int:
    """Return when a rotation begins: later than any before it, ended or not.

    Its first use is told from theirs by that alone.
    """
    if record.rotation is not None:
        return max(now, record.rotation.started_at + 1)
    newest = record.secrets[-1].created_at  # later than the key: it came of a rotation
    return max(now, newest + 1 if newest > record.created_at else now)


def _check_holder(record: KeyRecord, holder: ApiKey, peppers: Mapping[str, bytes]) -> None:
    """Refuse a holder whose secret is not the record's newest, as of this very change."""
    found = KeyRing({record.key_id: record}).verify(holder.key_id, holder.secret, peppers)
    if found is None:
        raise AdminRefusedError(f"key {record.key_id} was rotated meanwhile: use its new secret")
    if found[1] is SecretRole.OLD:
        raise AdminRefusedError(
            f"this is the old secret of key {record.key_id}, which a rotation ends: rotate with "
            "the new one or, if that was lost before it was used, cancel the rotation first"
        )
