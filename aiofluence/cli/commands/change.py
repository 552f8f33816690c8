"""`update`, `rename`, `terminate` and `sweep`: changes to running instances, and their end.

A command that ends several instances asks first, outside the event loop, so that Ctrl-C can answer.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import aiofluence

from ...models.values import Kind
from ..arguments import Argument, Exit, Option, UsageError, existing_file
from ..console import ask, listed, note, print_json, say
from ..exit_codes import FAILED, REACHED, USAGE, CommandError, explain, refusal
from ..json_output import Json, ref_shape, refs_shape
from ..lookup import choose_one, find_all, find_one, get_detail, list_all, resource_of
from ..options import (
    DryRunOption,
    EndTimeoutOption,
    EnvFileOption,
    EnvironmentOption,
    JsonOption,
    NameArgument,
    NamesArgument,
    RegistryOption,
    RegistryUserOption,
    SshKeyOption,
    TimeoutOption,
    YesOption,
    read_duration,
    timeout_of,
)
from ..pricing import registry_login, variables
from ..runner import execute, run_in_session, worst
from .show import PrefixOption

if TYPE_CHECKING:  # imported on demand, since help and completion do not need them
    from ...models.instances import Container, InstanceRef
    from ...models.specs import RegistryCredentials


def update(
    name: NameArgument,
    image: Annotated[str | None, Option(metavar="IMAGE", help="Another image.", complete="image")] = None,
    env: EnvironmentOption = None,
    env_file: EnvFileOption = None,
    unset: Annotated[
        list[str] | None, Option("--unset", metavar="NAME", help="Remove this variable.")
    ] = None,
    command: Annotated[
        str | None, Option(metavar="COMMAND", help="Another start-up command; '' for the image's own.")
    ] = None,
    ssh_key: SshKeyOption = None,
    registry: RegistryOption = None,
    registry_user: RegistryUserOption = None,
    timeout: TimeoutOption = 900.0,
    as_json: JsonOption = False,
) -> None:
    """Change a container, and wait until the change is applied. Keep everything that no flag names.

    Only the log-in to a private registry must be given again, because the service does not show it.
    """

    from ...models.specs import SSH_VARIABLE
    from ..instance_text import show_instance

    async def change(fluence: aiofluence.Session) -> None:
        container = await _container(fluence, name)
        changes: dict[str, Any] = {}
        problems: list[str] = []
        if image is not None:
            changes["image"] = image
        if command is not None:
            changes["startup_command"] = command or None
        if ssh_key is not None:
            changes["ssh_key"] = _read_key(ssh_key, problems)
        if env or env_file or unset:
            now = container.container_info.environment.without(SSH_VARIABLE)
            kept = {key: value for key, value in now.items() if key not in (unset or ())}
            changes["environment"] = kept | _read_variables(env, env_file, problems)
        credentials = _read_login(registry, registry_user, problems)
        if not changes and credentials is None:
            raise CommandError("say what to change: --image, --env, --unset, --command, --ssh-key", USAGE)
        wanted = aiofluence.ContainerUpdate.from_container(container, credentials=credentials, **changes)
        _refuse([*problems, *wanted.problems()])
        show_instance(await fluence.update_and_wait(container, wanted, timeout=timeout_of(timeout)), as_json)

    execute(change)


def rename(
    name: NameArgument,
    new: Annotated[str, Argument(metavar="NEW", help="The new name.")],
    registry: RegistryOption = None,
    registry_user: RegistryUserOption = None,
    timeout: TimeoutOption = 900.0,
    as_json: JsonOption = False,
) -> None:
    """Rename an instance. For a container, that is an update, which restarts it."""

    async def change(fluence: aiofluence.Session) -> None:
        rows = await list_all(fluence)
        ref = choose_one(rows, name)
        for row in rows:
            if (row.kind, row.name) == (ref.kind, new) and row.id != ref.id and not row.status.final:
                raise CommandError(f"{row.ref} is live, and has that name; nothing was changed", USAGE)
        if ref.kind is Kind.CONTAINER:
            container = await _container(fluence, name)
            problems: list[str] = []
            credentials = _read_login(registry, registry_user, problems)
            wanted = aiofluence.ContainerUpdate.from_container(container, credentials=credentials, name=new)
            _refuse([*problems, *wanted.problems()])
            await fluence.update_and_wait(container, wanted, timeout=timeout_of(timeout))
        else:
            await resource_of(fluence, ref.kind).rename(ref.id, new)
        if as_json:
            print_json({**ref_shape(ref), "name": new})
        else:
            say(f"{ref.name} is now {new}")

    execute(change)


def terminate(
    names: NamesArgument,
    timeout: EndTimeoutOption = 2400.0,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """End instances and wait until they are gone. Accepts every status, and asks before it ends several."""
    refs: list[InstanceRef] = []

    async def find(fluence: aiofluence.Session) -> None:
        refs.extend(await find_all(fluence, names))

    async def end(fluence: aiofluence.Session) -> int:
        return await _end(fluence, refs, timeout_of(timeout), as_json)

    code = run_in_session(find)
    if code == REACHED and dry_run:
        _tell(refs, "would be ended", as_json)
    elif code == REACHED:
        if len(refs) > 1 and not yes:
            _confirm(refs)
        code = run_in_session(end)
    raise Exit(code)


async def _end(
    fluence: aiofluence.Session, refs: Sequence[InstanceRef], timeout: float | None, as_json: bool
) -> int:
    left = {ref.id: ref for ref in refs}

    async def see_gone(ref: InstanceRef) -> tuple[Json, int]:
        shape: Json = {**ref_shape(ref), "status": None, "spent": None, "error": None}
        try:
            ended = await fluence.terminate_and_wait(ref, timeout=timeout)
        except aiofluence.FluenceError as error:
            return shape | {"error": type(error).__name__}, explain(error)
        del left[ref.id]
        spent = None if ended is None else ended.billing.total_spendings
        if not as_json:
            say(f"{ref.name} has ended" + (f": {spent:f} USDC spent" if spent is not None else ""))
        if ended is None:
            return shape, REACHED
        return shape | {"status": ended.status, "spent": str(spent)}, REACHED

    try:
        # All of them to the end, even if stdout has no reader any more, as behind `| head`.
        settled = await asyncio.gather(*map(see_gone, refs), return_exceptions=True)
    except asyncio.CancelledError:
        note(f"Not seen gone, and perhaps running: {listed([str(ref) for ref in left.values()])}")
        raise
    outcomes = []
    for outcome in settled:
        if isinstance(outcome, BaseException):
            raise outcome
        outcomes.append(outcome)
    if as_json:
        print_json([shape for shape, _ in outcomes])
    return worst(*(code for _, code in outcomes))


def sweep(
    prefix: PrefixOption = None,
    older_than: Annotated[
        float | None,
        Option(parser=read_duration, metavar="TIME", help="Only instances older than 90s, 15m, 2h, 1d."),
    ] = None,
    journal: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            parser=existing_file,
            help="Journal of the runs that left instances behind.",
        ),
    ] = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """End what earlier runs left behind, or all with a prefix. Shows the instances, and asks first.

    Ends only what it has shown.
    """
    if prefix is None and older_than is None and journal is None:
        raise UsageError("give --journal, --prefix or --older-than: a sweep never means everything")
    found: list[aiofluence.SweepReport] = []

    async def find(fluence: aiofluence.Session) -> None:
        found.append(await fluence.sweep(prefix=prefix, older_than=older_than))

    async def end(fluence: aiofluence.Session) -> int:
        # Only what was shown: more instances may begin to fit while the user reads.
        shown = found[0].found
        report = await fluence.sweep(prefix=prefix, older_than=older_than, dry_run=False, only=shown)
        for ref in report.left:  # first, since stdout may have no reader
            note(f"aiofluence: {ref} could not be ended")
        _tell_left_out(report)
        if as_json:
            print_json(_sweep_shape(report))
        else:
            _tell(report.ended, "ended", as_json)
            _tell_unsettled(report)
        return FAILED if report.left or report.failed else REACHED

    code = run_in_session(find, journal=journal)
    if code != REACHED:
        raise Exit(code)
    (report,) = found
    if dry_run or not (report.found or report.unsettled):
        _tell_left_out(report)
        if as_json:
            print_json(_sweep_shape(report))
        else:
            _tell(report.found, "would be ended", as_json)
            _tell_unsettled(report)
        raise Exit(FAILED if report.failed else REACHED)
    if report.found and not yes:
        _tell_left_out(report)
        _confirm(report.found)
    raise Exit(run_in_session(end, journal=journal))


def _sweep_shape(report: aiofluence.SweepReport) -> Json:
    return {
        "found": refs_shape(report.found),
        "ended": refs_shape(report.ended),
        "left": refs_shape(report.left),
        "unsettled": list(report.unsettled),
        "failed": {kind.value: str(error) for kind, error in report.failed.items()},
        "unreadable": report.unreadable,
        "foreign": report.foreign,
    }


def _tell_left_out(report: aiofluence.SweepReport) -> None:
    """Report on stderr what the sweep could not read, where instances may be left."""
    for kind, error in report.failed.items():
        note(f"aiofluence: instances of kind {kind} may be left out: {error}")
    if report.unreadable:
        note(f"aiofluence: {report.unreadable} rows cannot be read, and may be left out")
    if report.foreign:
        note(f"aiofluence: {report.foreign} journal entries of another account were left alone")


def _tell_unsettled(report: aiofluence.SweepReport) -> None:
    for name in report.unsettled:
        say(f"{name} may have been deployed, and is in no list so far; sweep again later")


def _tell(refs: Sequence[InstanceRef], what: str, as_json: bool) -> None:
    if as_json:
        print_json({"dry_run": True, "instances": refs_shape(refs)})
    elif not refs:
        say("Nothing was found.")
    else:
        for ref in refs:
            say(f"{ref} {what}")


def _confirm(refs: Sequence[InstanceRef]) -> None:
    """Ask before instances are ended.

    Raises:
        Exit: the answer is no, or stdin is no terminal.
    """
    if not sys.stdin.isatty():
        raise Exit(explain(CommandError(f"this ends {len(refs)} instances: add --yes", USAGE)))
    for ref in refs:
        note(str(ref))
    if not ask(f"End {'this' if len(refs) == 1 else f'these {len(refs)}'}?"):
        note("Nothing was ended.")
        raise Exit(FAILED)


async def _container(fluence: aiofluence.Session, name: str) -> Container:
    instance = await get_detail(fluence, await find_one(fluence, name))
    if not isinstance(instance, aiofluence.Container):
        raise CommandError(f"{instance.ref} cannot be updated: of a machine only the name can change", USAGE)
    return instance


def _refuse(problems: Sequence[str]) -> None:
    """Raise all problems, each once.

    Raises:
        CommandError: there is at least one problem.
    """
    if problems:
        raise refusal(list(dict.fromkeys(problems)), "nothing was changed")


def _read_key(given: str, problems: list[str]) -> str | None:
    from ..own_values import read_ssh_key

    try:
        return read_ssh_key(given)
    except OSError as error:
        problems.append(f"ssh_key: neither the text of a public key nor a file: {error.strerror}")
        return None


def _read_variables(env: Sequence[str] | None, env_file: Path | None, problems: list[str]) -> dict[str, str]:
    from ..own_values import read_environment

    given = variables(env, env_file)
    return read_environment(given.get("environment", {}), given.get("pass_environment", []), problems)


def _read_login(registry: str | None, user: str | None, problems: list[str]) -> RegistryCredentials | None:
    from ..own_values import read_credentials

    login = registry_login(registry, user)
    return None if login is None else read_credentials(login, problems)
