"""The API in a user's name: every call goes out with that user's key, read anew once if refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from web.accounts import Accounts
from web.api_client import ApiClient, ApiError


class UserApi:
    """Calls that generate nothing. Each raises ApiError."""

    def __init__(self, api: ApiClient, accounts: Accounts) -> None:
        self._api, self._accounts = api, accounts

    def get(
        self,
        username: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        glance: bool = False,
    ) -> Any:
        """Return the JSON of a GET; a glance waits only as long as a page may."""
        return self._call(username, "GET", path, query=query, glance=glance)

    def send(self, username: str, method: str, path: str, body: Mapping[str, Any]) -> Any:
        """Return the JSON that a changing call answers with."""
        return self._call(username, method, path, body=body)

    def _call(self, username: str, method: str, path: str, **request: Any) -> Any:
        key = self._accounts.key_of(username)
        try:
            return self._api.call(method, path, key=key, **request)
        except ApiError as refusal:
            if refusal.status != 401:
                raise
        key = self._accounts.key_was_refused(username, key)
        return self._api.call(method, path, key=key, **request)
