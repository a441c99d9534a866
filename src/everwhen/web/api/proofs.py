"""Proofs: what the signed log says, as the C2SP texts that anybody can check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.responses import Response

from everwhen.exchange.json_forms import utc_text
from everwhen.merkle.tile_stores import CHECKPOINT, TileFolder
from everwhen.web.answers import json_answer
from everwhen.web.api.events import position_of
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.governance import missing
from everwhen.web.problems import MERKLE_LOG, UNKNOWN, UNSUPPORTED, ProblemError

if TYPE_CHECKING:
    from everwhen.merkle.aio import MerkleLog

_TEXT: Final = "text/plain"


async def read_checkpoint(call: ApiCall[NoParameters]) -> Response:
    """The newest signed checkpoint, as it lies in the log (C2SP tlog-checkpoint)."""
    at = await _log(call).checkpoint()
    if at is None:
        raise ProblemError(UNKNOWN, "nothing is signed yet; sign first, with everwhen sign")
    return _text(at.note)


async def read_proof(call: ApiCall[NoParameters]) -> Response:
    """The proof that the commit of a position is in the signed log, as everwhen-verify takes it."""
    proof = await _log(call).prove(position_of(call.segment("position")))
    return _text(proof.encode())


class SigningKey(msgspec.Struct, frozen=True):
    """A key of the log, to check proofs by: ``vkey`` is its public part as C2SP writes it.

    It signs trees of ``first`` to ``last`` commits; null stands for no end.
    """

    name: str
    vkey: str
    first: int
    last: int | None


class SignedLogForm(msgspec.Struct, frozen=True):
    """The newest checkpoint, of ``size`` commits; 0 and no keys before anything is signed.

    ``root`` is in hexadecimal. ``signed_at`` is when the log's folder got the checkpoint: nobody
    has signed that time. Keys stand in the order in which they handed over.
    """

    origin: str | None
    size: int
    root: str | None
    signed_at: str | None
    keys: list[SigningKey]


async def read_signed_log(call: ApiCall[NoParameters]) -> Response:
    """What the signed log is: how much is signed, when, and by which keys."""
    log = _log(call)
    at = await log.checkpoint()
    if at is None:
        return json_answer(SignedLogForm(None, 0, None, None, []))
    keys = [
        SigningKey(key.verifier.name, key.verifier.vkey, key.first, key.last)
        for key in await log.keys()
    ]
    written = None
    if isinstance(tiles := log.tiles, TileFolder):
        written = await call.hosting.compute(tiles.written_at, CHECKPOINT)
    signed = at.checkpoint
    return json_answer(
        SignedLogForm(
            origin=signed.origin,
            size=signed.size,
            root=signed.root.hex(),
            signed_at=None if written is None else utc_text(written),
            keys=keys,
        )
    )


def _text(content: bytes) -> Response:
    return Response(content, headers={"Cache-Control": "no-store"}, media_type=_TEXT)


def _log(call: ApiCall[Any]) -> MerkleLog:
    log = call.hosting.governance.log
    if log is None:
        raise missing("a signed log", "log")
    return log


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/signed-log",
        handle=read_signed_log,
        scope="read",
        answers={200: SignedLogForm},
        problems=(UNSUPPORTED,),
        of_branch=False,
    ),
    Endpoint(
        method="GET",
        path="/checkpoint",
        handle=read_checkpoint,
        scope="read",
        answers={200: _TEXT},
        problems=(UNSUPPORTED,),
        of_branch=False,
    ),
    Endpoint(
        method="GET",
        path="/proofs/{position}",
        handle=read_proof,
        scope="read",
        answers={200: _TEXT},
        problems=(MERKLE_LOG, UNSUPPORTED),
        of_branch=False,
    ),
)
