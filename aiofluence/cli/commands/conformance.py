"""`conformance`: comparison of the service with the claims of docs/fidelity.md, and the file of observations.

Asks before each level, outside the event loop. The package `conformance` does the work.
"""

from __future__ import annotations

import json
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import aiofluence

from ..arguments import Exit, Option
from ..console import Column, ask, listed, note, print_json, print_table, say
from ..exit_codes import FAILED, REACHED, USAGE, CommandError, explain
from ..options import JournalOption, JsonOption, YesOption
from ..runner import run_in_session

if TYPE_CHECKING:  # imported on demand, since help and completion do not need them
    from ...conformance.finding import Finding, Observations
    from ...conformance.probe import Level
    from ...conformance.run import Conformance, Plan

LevelChoice: TypeAlias = Literal["free", "refunded", "paid"]


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not (amount.is_finite() and amount >= 0):
        raise ValueError(f"{text!r} is not an amount of USDC")
    return amount


def conformance(
    level: Annotated[
        LevelChoice,
        Option(help="free sends only requests; refunded deploys to fail; paid rents for one hour."),
    ] = "free",
    yes: YesOption = False,
    max_cost: Annotated[
        Decimal | None,
        Option(parser=_amount, metavar="USDC", help="Run no level that could cost more than that."),
    ] = None,
    output: Annotated[Path, Option(metavar="FILE", help="File of observations, without secrets.")] = Path(
        "observations.json"
    ),
    journal: JournalOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the service with what the simulator claims about it, and write the observations to a file.

    Each level includes the ones before it, says what it will do and cost, and asks. Exit code 1: a claim is
    contradicted.
    """
    from ...conformance.probe import Level
    from ...conformance.run import Conformance

    wanted = Level(level)
    if output.is_dir() or not output.parent.is_dir():  # checked before anything is paid for
        raise Exit(explain(CommandError(f"--output: {output} cannot be written; nothing was run", USAGE)))
    journal = journal or output.with_name(f"{output.name}.journal")
    run = Conformance(note, max_cost)
    code = run_in_session(run.find_prices)
    if code != REACHED:
        raise Exit(code)
    if problem := _problem(run, wanted, yes, max_cost):
        raise Exit(explain(CommandError(problem, USAGE)))
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
    raise Exit(code or (FAILED if observations.contradicted else REACHED))


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
    return yes or ask("Go ahead?")


def _run_level(run: Conformance, level: Level, journal: Path) -> int:
    from ...conformance.asking import UnfitError
    from ...conformance.probe import Level

    async def command(fluence: aiofluence.Session) -> None:
        if level is not Level.FREE:
            report = await fluence.sweep(dry_run=False)  # an earlier run may have been killed
            if report.left or report.failed:
                left = listed([str(ref) for ref in report.left]) or "instances"
                raise CommandError(f"{left} of an earlier run may still be billing; nothing was deployed")
        try:
            await run.run(fluence, level)
        except UnfitError as error:
            raise CommandError(f"{error}; nothing was deployed") from None

    # One POST for each deploy, so that no duplicate can add to the worst case.
    once = aiofluence.DeployPolicy(max_posts=1)
    return run_in_session(command, journal=None if level is Level.FREE else journal, deploy=once)


def _claims() -> dict[str, str]:
    """Return the ids of all claims, each with the reason why no probe decides it."""
    from ...simulator.claims import CLAIMS

    return {claim.id: claim.why_not for claim in CLAIMS}


def _show(observations: Observations, output: Path) -> None:
    from ...conformance.finding import Verdict

    columns = [
        Column("CLAIM"),
        Column("VERDICT"),
        Column("EXPECTED", fold=True),
        Column("OBSERVED", fold=True),
    ]
    print_table(columns, [_row(each) for each in observations.findings])
    counts = ", ".join(f"{observations.count(verdict)} {verdict}" for verdict in Verdict)
    say(f"{counts}; {output} has no secret, and can be sent in as docs/fidelity.md says.")


def _row(finding: Finding) -> tuple[str, str, str, str]:
    from ...conformance.finding import Verdict

    if finding.verdict is Verdict.UNDECIDED:
        return finding.claim, finding.verdict.value, "", finding.why
    return finding.claim, finding.verdict.value, _text(finding.expected), _text(finding.observed)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
