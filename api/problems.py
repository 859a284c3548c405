"""Which problem of the catalogue an exception is to the caller; nothing private leaves by it."""

from __future__ import annotations

import structlog
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from api.call import Call
from api.errors import ProblemError
from auth.errors import AdminRefusedError, MalformedDocumentError, UnknownNameError
from auth.principal import Scope
from auth.propagation import PropagationUnavailableError
from auth.secrets import SecretStoreError

_HTTP_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    411: "length_required",
    413: "body_too_large",
    415: "unsupported_media_type",
}

log = structlog.get_logger()


def problem_of(error: Exception, call: Call) -> ProblemError:
    """Return what the call is answered with."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, AdminRefusedError):
        # An admin's operation that the keyring refuses: its sentence is meant for the caller.
        code = "not_found" if isinstance(error, UnknownNameError) else "conflict"
        return ProblemError(code, f"{error}.")
    if isinstance(error, SecretStoreError | MalformedDocumentError):
        return _store_away(error, call)
    if isinstance(error, PropagationUnavailableError):
        return ProblemError("limiter_unavailable", f"{error}.", reason=str(error))
    if isinstance(error, HTTPException) and error.code in _HTTP_CODES:
        allowed = error.valid_methods if isinstance(error, MethodNotAllowed) else None
        headers = {"Allow": ", ".join(sorted(allowed))} if allowed else {}
        return ProblemError(_HTTP_CODES[error.code], headers=headers)
    # The last resort: say nothing outside, everything inside.
    method, known = call.environ["REQUEST_METHOD"], call.access is not None
    log.error("unforeseen", method=method, path_known=known, exc_info=error)
    return ProblemError("internal_error")


def _store_away(error: Exception, call: Call) -> ProblemError:
    """A change or a list that the secret store kept from us; only an admin hears what it said."""
    detail = "The secret store could not be read or written. Look before you try again."
    if call.keyed and Scope.ADMIN in call.principal.scopes:
        detail = f"{error}: `python -m auth secrets check` says which rights are missing."
    return ProblemError("keyring_unavailable", detail, reason=str(error))
