"""`conformance`: comparison of the service with the claims of docs/fidelity.md, and the file of observations.

Asks before each level, outside the event loop. The package `conformance` does the work.
"""

from __future__ import annotations

import json
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

import aiofluence

from ...conformance.finding import Finding, Observations, Verdict
from ...conformance.probe import Level
from ...conformance.run import Conformance, Plan
from ..console import note, print_json, print_table, say
from ..exit_codes import FAILED, REACHED, USAGE, CommandError, explain
from ..options import JournalOption, JsonOption, YesOption
from ..runner import run_in_session

LevelChoice: TypeAlias = Literal["free", "refunded", "paid"]


def _amount(text: str | Decimal) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not (amount.is_finite() and amount >= 0):
        raise typer.BadParameter(f"{text!r} is not an amount of USDC")
    return amount


def conformance(
    level: Annotated[
        LevelChoice,
        typer.Option(help="free sends only requests; refunded deploys to fail; paid rents for one hour."),
    ] = "free",
    yes: YesOption = False,
    max_cost: Annotated[
        Decimal | None,
        typer.Option(parser=_amount, metavar="USDC", help="Run no level that could cost more than that."),
    ] = None,
    output: Annotated[
        Path, typer.Option(metavar="FILE", help="File of observations, without secrets.")
    ] = Path("observations.json"),
    journal: JournalOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the service with what the simulator claims about it, and write the observations to a file.

    Each level includes the ones before it, says what it will do and cost, and asks. Exit code 1: a claim is
    contradicted.
    """
    wanted = Level(level)
    journal = journal or output.with_name(f"{output.name}.journal")
    run = Conformance(note, max_cost)
    code = run_in_session(run.find_prices)
    if code != REACHED:
        raise typer.Exit(code)
    if problem := _problem(run, wanted, yes, max_cost):
        raise typer.Exit(explain(CommandError(problem, USAGE)))
    for each in wanted.included:
        if not _is_agreed(run.plan(each), yes, journal):
            note(f"The level {each} was not run.")
            code = FAILED
            break
        code = _run_level(run, each, journal)
        if code != REACHED:
            break
    observations = run.observations(_claims())
    observations.write(output)
    if as_json:
        print_json(observations.to_json())
    else:
        _show(observations, output)
    raise typer.Exit(code or (FAILED if observations.contradicted else REACHED))


def _problem(run: Conformance, level: Level, yes: bool, max_cost: Decimal | None) -> str | None:
    """Return the reason to refuse the levels, or None."""
    worst = run.worst_until(level)
    if max_cost is not None and worst > max_cost:
        return f"the level {level} may cost {worst:f} USDC, over --max-cost {max_cost:f}; nothing was run"
    if yes and max_cost is None and worst:
        return f"the level {level} may cost {worst:f} USDC: add --max-cost to --yes; nothing was run"
    if not yes and not sys.stdin.isatty():
        return "this asks before each level: add --yes; nothing was run"
    return None


def _is_agreed(plan: Plan, yes: bool, journal: Path) -> bool:
    """Say what a level will do and cost, and ask."""
    note(f"Level {plan.level}: {plan.text}.")
    note(f"  about {plan.requests} requests in about {plan.minutes} min")
    if plan.worst:
        note(f"  planned cost: {plan.planned:f} USDC; at worst: {plan.worst:f} USDC")
        note(f"  If this is killed, end what runs with: aiofluence sweep --journal {journal}")
    else:
        note("  cost: nothing")
    return yes or typer.confirm("Go ahead?", err=True)


def _run_level(run: Conformance, level: Level, journal: Path) -> int:
    async def command(fluence: aiofluence.Session) -> None:
        if level is not Level.FREE:
            await fluence.sweep(dry_run=False)  # an earlier run may have been killed
        await run.run(fluence, level)

    return run_in_session(command, journal=None if level is Level.FREE else journal)


def _claims() -> dict[str, str]:
    """Return the ids of all claims, each with the reason why no probe decides it."""
    from ...simulator.claims import CLAIMS

    return {claim.id: claim.why_not for claim in CLAIMS}


def _show(observations: Observations, output: Path) -> None:
    print_table(("CLAIM", "VERDICT", "EXPECTED", "OBSERVED"), [_row(each) for each in observations.findings])
    counts = ", ".join(f"{observations.count(verdict)} {verdict}" for verdict in Verdict)
    say(f"{counts}; {output} has no secret, and can be sent in as docs/fidelity.md says.")


def _row(finding: Finding) -> tuple[str, str, str, str]:
    if finding.verdict is Verdict.UNDECIDED:
        return finding.claim, finding.verdict.value, "", finding.why
    expected, observed = (_short(value) for value in (finding.expected, finding.observed))
    return finding.claim, finding.verdict.value, expected, observed


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


_LONGEST = 70
