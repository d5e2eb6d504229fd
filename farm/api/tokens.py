"""Tokens over HTTP. A secret is in the answer that makes it, and nowhere else."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

from fastapi import APIRouter

from farm import schemas
from farm.api import asked
from farm.api.auth import Admin, Anyone, Engineer, sees
from farm.api.services import Farm
from farm.domain import Token
from farm.store import tokens

router = APIRouter(tags=["tokens"])


@router.get("/tokens")
def list_tokens(token: Engineer, farm: Farm, project: asked.ProjectName = None) -> schemas.TokensTold:
    """Tokens, the newest first: an engineer sees those of the own Project."""
    found = tokens.list_tokens(farm.store, project=sees(token, project))
    return schemas.TokensTold(tokens=[_told(one) for one in found])


@router.get("/tokens/self")
def show_self(token: Anyone) -> schemas.TokenTold:
    """The token that is shown with this very request."""
    return _told(token)


@router.post("/tokens", status_code=201)
def create(body: schemas.TokenAsked, token: Admin, farm: Farm) -> schemas.TokenMade:
    """A new token."""
    now = farm.clock()
    lives_s = body.expires_in_s
    made, secret = tokens.create(
        farm.store,
        name=body.name,
        role=body.role,
        project=body.project,
        created_by=token.name,
        expires_at=None if lives_s is None else now + timedelta(seconds=lives_s),
        now=now,
    )
    return _made(made, secret)


@router.post("/tokens/{token_id}/rotate")
def rotate(token_id: asked.TokenId, body: schemas.RotateAsked, token: Admin, farm: Farm) -> schemas.TokenMade:
    """A new token in place of an old one, which stays good for a while. Jobs and open streams go on."""
    made, secret = tokens.rotate(farm.store, token_id, grace_s=body.grace_s, by=token.name, now=farm.clock())
    return _made(made, secret)


@router.delete("/tokens/{token_id}", status_code=204)
def revoke(token_id: asked.TokenId, token: Admin, farm: Farm) -> None:
    """End a token now."""
    tokens.revoke(farm.store, token_id, by=token.name, now=farm.clock())


def _told(token: Token) -> schemas.TokenTold:
    return schemas.TokenTold(**asdict(token))


def _made(token: Token, secret: str) -> schemas.TokenMade:
    return schemas.TokenMade(**asdict(token), secret=secret)
