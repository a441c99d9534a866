"""Proofs: what the signed log says, as the C2SP texts that anybody can check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

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
