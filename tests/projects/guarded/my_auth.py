"""Auth as LangGraph's documentation has people write it: signed tokens, owners, permissions."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

from langgraph_sdk import Auth

SECRET = b"a secret of this test"

auth = Auth()


def signed(**claims: object) -> str:
    """A token as a login would give it out."""
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()
    return f"{body}.{hmac.new(SECRET, body.encode(), hashlib.sha256).hexdigest()}"


@auth.authenticate
async def get_current_user(authorization: str | None) -> Auth.types.MinimalUserDict:
    assert authorization, "No token"
    scheme, _, token = authorization.partition(" ")
    body, _, signature = token.partition(".")
    expected = hmac.new(SECRET, body.encode(), hashlib.sha256).hexdigest()
    if scheme.lower() != "bearer" or not hmac.compare_digest(signature, expected):
        raise Auth.exceptions.HTTPException(
            status_code=401, detail="Invalid token", headers={"WWW-Authenticate": "Bearer"}
        )
    claims = json.loads(base64.urlsafe_b64decode(body))
    return {"identity": claims["sub"], "permissions": claims["scope"], "upstream": token[:4]}


@auth.on
async def add_owner(ctx: Auth.types.AuthContext, value: dict):
    """What somebody makes is theirs; an admin sees all."""
    if "admin" in ctx.permissions:
        return None
    filters = {"owner": ctx.user.identity}
    metadata = value.setdefault("metadata", {})
    metadata.update(filters)
    return filters


@auth.on.threads.create
async def on_thread_create(ctx: Auth.types.AuthContext, value: Auth.types.on.threads.create.value):
    if "threads:write" not in ctx.permissions and "admin" not in ctx.permissions:
        raise Auth.exceptions.HTTPException(status_code=403, detail="Unauthorized")
    value["metadata"]["owner"] = ctx.user.identity
    return {"owner": ctx.user.identity}


@auth.on.assistants.create
async def on_assistants(ctx: Auth.types.AuthContext, value: Auth.types.on.assistants.create.value):
    return False


@auth.on.store()
async def authorize_store(ctx: Auth.types.AuthContext, value: dict):
    namespace = tuple(value["namespace"]) if value.get("namespace") else ()
    if not namespace or namespace[0] != ctx.user.identity:
        namespace = (ctx.user.identity, *namespace)
    value["namespace"] = namespace
