"""The eye in the sky: who sat down, what was paid, and what was refused, in the audit log.

What happens has its entry in its own commit: no payout without one, whatever crashes. Who was
refused a bet has an entry, too. Money that was moved needs none: its events say as much.
"""

from __future__ import annotations

from typing import Any, Final

from bitcraps.commands import (
    CancelBet,
    CloseBetting,
    Deposit,
    JoinGame,
    OpenAccount,
    PlaceBet,
    RefundBet,
    RollDice,
    StartGame,
    Withdraw,
)
from bitcraps.events import BetWon
from everwhen import Refusal
from everwhen.audit import AuditAction, AuditFilter, AuditResult, AuditRules
from everwhen.audit.aio import AuditLog, audited
from everwhen.commands.aio import CallNext, CommandResult, Envelope, Middleware

HOUSE: Final = "house"
"""Who throws the dice and pays, in the log."""
INSPECTOR: Final = "inspector"
"""Who may see all of the log; players see what they did themselves."""

rules: Final = AuditRules()
rules.on(JoinGame, AuditAction.LOGIN, lambda command: f"games/{command.game}")
rules.on(RollDice, AuditAction.UPDATE, lambda command: f"games/{command.game}/payouts")
rules.leave_out(OpenAccount, Deposit, Withdraw)
rules.leave_out(StartGame, PlaceBet, CancelBet, CloseBetting, RefundBet)


def watched(audit: AuditLog) -> tuple[Middleware, ...]:
    """The layers for the casino's command bus."""
    return audited(audit, rules, outcome=_paid), _refused_bets(audit)


def may_see(user: str | None) -> list[AuditFilter]:
    """The audit log's policy."""
    if user == INSPECTOR:
        return [AuditFilter()]
    return [AuditFilter(user=user)] if user is not None else []


def _paid(_command: Any, events: tuple[Any, ...]) -> dict[str, Any]:
    """What a roll paid: to whom, for which bet, how much."""
    won = [event for event in events if isinstance(event, BetWon)]
    return {"payouts": [[one.player, one.bet, one.payout] for one in won]} if won else {}


def _refused_bets(audit: AuditLog) -> Middleware:
    """A bet that was refused, or couldn't be taken back, has an entry of its own."""

    async def layer(envelope: Envelope, proceed: CallNext, /) -> CommandResult:
        try:
            return await proceed(envelope)
        except Refusal as refusal:
            command = envelope.command
            if isinstance(command, PlaceBet | CancelBet):
                entry = audit.entry(
                    AuditAction.UPDATE,
                    f"games/{command.game}/bets",
                    result=AuditResult.FAILURE,
                    reason=f"{type(refusal).__name__}: {refusal}",
                    user=envelope.user_id,
                )
                await audit.record(entry)
            raise

    return layer
