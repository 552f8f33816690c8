"""`deploy` and `launch`: from flags or a TOML file to running instances, or to their prices.

`batch_file` checks the orders. The session ends instances when something goes wrong.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import aiofluence

from ...models.values import Kind
from ..arguments import Argument, Exit, Option
from ..console import give_up_stdout, listed, note, print_json, say
from ..exit_codes import FAILED, REACHED, USAGE, CommandError, code_of, explain, in_flags
from ..json_output import ref_shape, report_shape
from ..lookup import resource_of
from ..options import (
    AdoptOption,
    CapacityOption,
    DryRunOption,
    EnvFileOption,
    EnvironmentOption,
    GpusOption,
    JournalOption,
    JsonOption,
    KeepOption,
    LocationOption,
    MinCpusOption,
    MinMemoryOption,
    MinStorageOption,
    MinVramOption,
    ProviderOption,
    RegistryOption,
    RegistryUserOption,
    SshKeyOption,
    TimeoutOption,
    UntilOption,
    read_duration,
    timeout_of,
)
from ..pricing import given_by_flags, priced, read_orders, registry_login, show_order, variables
from ..runner import execute, worst

if TYPE_CHECKING:  # imported on demand, since help and completion do not need them
    from ...models.instances import Instance, InstanceRef
    from ..launch_table import LaunchTable

_UPDATE_INTERVAL: Final = 0.25


def deploy(
    name: Annotated[str | None, Argument(metavar="NAME", help="Default: the name in the file.")] = None,
    file: Annotated[
        Path | None,
        Option("--file", "-f", metavar="TOML", help="File with values that no flag gives."),
    ] = None,
    kind: Annotated[Kind | None, Option(help="Default: container.")] = None,
    plan: Annotated[str | None, Option(metavar="PLAN", help="Id or name of a plan.", complete="plan")] = None,
    gpu: GpusOption = None,
    gpu_count: Annotated[int | None, Option(metavar="N", help="Exactly that many GPUs.")] = None,
    location: LocationOption = None,
    max_hourly: Annotated[str | None, Option(metavar="USDC", help="Highest price of one hour.")] = None,
    min_cpus: MinCpusOption = None,
    min_memory: MinMemoryOption = None,
    min_storage: MinStorageOption = None,
    min_vram: MinVramOption = None,
    provider: ProviderOption = None,
    image: Annotated[
        str | None,
        Option(metavar="IMAGE", help="A container's image, or a slug of `images`.", complete="image"),
    ] = None,
    expose: Annotated[
        list[str] | None,
        Option("--expose", "-p", metavar="PORT", help="Ports: 22, 80/http, 5000-5005."),
    ] = None,
    env: EnvironmentOption = None,
    env_file: EnvFileOption = None,
    command: Annotated[
        str | None, Option(metavar="COMMAND", help="Command in place of the image's entrypoint.")
    ] = None,
    ssh_key: SshKeyOption = None,
    registry: RegistryOption = None,
    registry_user: RegistryUserOption = None,
    os_image: Annotated[
        str | None, Option(metavar="SYSTEM", help="System of a machine. Default: the plan's first.")
    ] = None,
    adopt: AdoptOption = False,
    wait_for_capacity: CapacityOption = None,
    wait: Annotated[bool, Option(help="Wait for the state of --until.")] = True,
    until: UntilOption = "active",
    timeout: TimeoutOption = 900.0,
    keep: KeepOption = False,
    journal: JournalOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Deploy one instance and wait for it; 2-3 minutes are usual.

    If that fails, times out or is interrupted, the instance is ended before this returns.

    Examples:
        aiofluence deploy box --gpu rtx4090 --image pytorch-2-6 --ssh-key id.pub
        aiofluence deploy vm-1 --kind vm --max-hourly 0.50 --ssh-key id.pub
    """
    given = given_by_flags(
        name=name,
        kind=kind,
        plan=plan,
        gpu=gpu,
        gpu_count=gpu_count,
        location=location,
        max_hourly=max_hourly,
        min_cpus=min_cpus,
        min_memory=min_memory,
        min_storage=min_storage,
        min_vram=min_vram,
        provider=provider,
        image=image,
        expose=expose,
        startup_command=command,
        ssh_key=ssh_key,
        os_image=os_image,
        credentials=registry_login(registry, registry_user),
    )

    async def deploy_one(fluence: aiofluence.Session) -> None:
        from ...models.ssh import ssh_access
        from ..instance_text import show_instance
        from ..launch_table import LaunchTable

        orders = read_orders(file, given | variables(env, env_file))
        items, *_ = await priced(fluence, orders, capacity=wait_for_capacity)
        if len(items) != 1:
            raise CommandError(f"{file} asks for {len(items)} instances; see `launch`", USAGE)
        (item,) = items
        spec, table = item.spec, LaunchTable(items)

        def announce() -> None:
            unless = ", unless it is live already," if adopt else ""
            if not as_json:
                note(
                    f"Deploying {spec.kind} {spec.name}{unless} on {item.offer.name}: "
                    f"{item.offer.hourly:f} USDC an hour, {item.offer.upfront:f} taken at once."
                )

        def on_progress(progress: aiofluence.LaunchProgress) -> None:
            if not table.begun.is_set():
                announce()
            table.note(progress)

        planned = fluence.launch(
            [spec],
            until=until,
            timeout=timeout_of(timeout),
            on_failure="keep" if keep else "terminate",
            on_progress=on_progress,
            adopt=adopt,
            wait_for_capacity=wait_for_capacity,
        )

        async def bring_up() -> Instance:
            try:
                async with planned as launched:
                    report = await launched.complete()
            except aiofluence.LaunchError as error:  # such as a balance that is too low
                report = error.report
            (outcome,) = report.outcomes
            if outcome.instance is None:
                raise outcome.error or CommandError(f"{spec.name} was not deployed")
            return outcome.instance

        if dry_run:
            await show_order(fluence, items, as_json, await planned.check())
            return
        if not wait:
            if not adopt:
                await planned.check()
            announce()
            ref = await (fluence.ensure(spec) if adopt else resource_of(fluence, spec.kind).deploy(spec))
            with _reported_anyway([ref]):
                print_json(ref_shape(ref)) if as_json else say(
                    f"{ref} is {'deployed' if adopt else 'being provisioned'}"
                )
            return
        try:
            is_live = sys.stdout.isatty() and not as_json
            instance = await (_shown(table, bring_up) if is_live else bring_up())
        except (aiofluence.LifecycleError, asyncio.CancelledError) as error:
            is_over = isinstance(error, aiofluence.InstanceFailedError | aiofluence.InstanceEndedError)
            is_billing = isinstance(error, aiofluence.InstanceFailedError) and error.is_billing
            if keep and (is_billing or not is_over):
                note(f"{spec.name} is kept: if it was created, it keeps running, and billing.")
            raise
        with _reported_anyway([instance.ref]):
            show_instance(instance, as_json)
        if not as_json and until == "active" and ssh_access(instance) is None and not instance.network:
            note(f"It has no address yet. To wait for it: aiofluence wait {spec.name} --until ready")

    execute(deploy_one, journal=journal)


def launch(
    file: Annotated[Path, Argument(metavar="BATCH.TOML", help="The batch file; - reads stdin.")],
    until: UntilOption = "active",
    timeout: TimeoutOption = 900.0,
    min_ready: Annotated[
        int | None, Option(metavar="N", help="Call off the launch when fewer can become ready.")
    ] = None,
    max_hourly: Annotated[
        str | None, Option(metavar="USDC", help="Highest price of all instances for one hour.")
    ] = None,
    fallback: Annotated[
        list[str] | None,
        Option(
            metavar="PLAN",
            help="Plans or GPU models to try, in this order, if a plan is gone.",
            complete="plan",
        ),
    ] = None,
    gpu: GpusOption = None,
    wait_for_capacity: CapacityOption = None,
    timeline: Annotated[
        Path | None,
        Option(metavar="OUT.SVG", help="Write a picture of the launch's timeline."),
    ] = None,
    adopt: AdoptOption = False,
    keep: KeepOption = False,
    journal: JournalOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Launch everything in a file at once, and show the progress.

    A failed instance does not disturb the others. If interrupted or called off, the launch ends all of them.
    After a kill, --adopt resumes it.

    Examples:
        aiofluence launch batch.toml --dry-run
        aiofluence launch batch.toml --min-ready 8 --journal run.journal
    """

    async def launch_all(fluence: aiofluence.Session) -> int:
        nonlocal min_ready, max_hourly
        from ...lifecycle.arguments import money_problems, quorum_problems
        from ..launch_table import NO_ADDRESS, LaunchTable, summary

        if timeline is not None and not timeline.parent.is_dir():  # checked before anything is paid for
            raise CommandError(f"--timeline: {timeline.parent} is not a directory", USAGE)

        def other_problems(count: int) -> Iterator[str]:
            yield from map(in_flags, (*money_problems(max_hourly), *quorum_problems(min_ready, count)))

        orders = read_orders(file, {}, gpu)
        # Flags go before the file.
        of_file = orders.launch
        min_ready = of_file.get("min_ready") if min_ready is None else min_ready
        max_hourly = of_file.get("max_hourly") if max_hourly is None else max_hourly
        capacity = (
            _seconds(of_file.get("wait_for_capacity")) if wait_for_capacity is None else wait_for_capacity
        )
        plans = fallback or of_file.get("fallback", ())
        plans = [plans] if isinstance(plans, str) else plans
        items, offers, others = await priced(fluence, orders, plans, other_problems, capacity)
        if dry_run:
            planned = fluence.launch(
                [item.spec for item in items],
                min_ready=min_ready,
                max_hourly=max_hourly,
                fallback=others,
                adopt=adopt,
                wait_for_capacity=capacity,
            )
            await show_order(fluence, items, as_json, await planned.check())
            return REACHED
        table = LaunchTable(items, offers)

        async def bring_up() -> tuple[aiofluence.Report, aiofluence.LaunchError | None]:
            try:
                report = await fluence.deploy_all_and_wait(
                    [item.spec for item in items],
                    until=until,
                    timeout=timeout_of(timeout),
                    on_failure="keep" if keep else "terminate",
                    min_ready=min_ready,
                    max_hourly=max_hourly,
                    fallback=others,
                    on_progress=table.note,
                    adopt=adopt,
                    wait_for_capacity=capacity,
                )
            except aiofluence.LaunchError as error:
                return error.report, error
            return report, None

        try:
            report, called_off = await (bring_up() if as_json else _shown(table, bring_up))
        except asyncio.CancelledError:
            if keep and table.refs:
                note(f"Kept, and billing: {listed([str(ref) for ref in table.refs.values()])}")
            raise
        with _reported_anyway([one.ref for one in report.instances]):
            try:
                if as_json:
                    print_json(report_shape(report))
                else:
                    lines = summary(report)
                    for line in lines:
                        say(line)
                    if missing := sum(line.endswith(NO_ADDRESS) for line in lines):
                        note(f"{missing} without an address: --until ready waits for it.")
            finally:
                if timeline is not None:
                    report.timeline().save(timeline)
        if called_off is not None:
            return explain(called_off)
        if min_ready is not None and len(report.ready) >= min_ready:
            return REACHED
        return worst(*(code_of(o.error) for o in report.outcomes if o.error is not None))

    execute(launch_all, journal=journal)


def _seconds(given: str | int | None) -> float | None:
    """Return the seconds of `wait_for_capacity` in a file.

    Raises:
        CommandError: it is no time.
    """
    try:
        return None if given is None else read_duration(str(given))
    except ValueError as error:
        raise CommandError(f"wait_for_capacity: {error}", USAGE) from None


async def _shown(table: LaunchTable, work: Callable[[], Awaitable[Any]]) -> Any:
    """Do `work`, and show the table meanwhile."""
    from ..displays import choose_display

    loop = asyncio.get_running_loop()
    began = loop.time()
    with choose_display(lambda: loop.time() - began).progress() as update:

        async def redraw() -> None:
            with suppress(BrokenPipeError):  # without a reader, the paid work continues
                await table.begun.wait()  # the launch may be refused before
                while True:
                    update(table.rows(), table.title())
                    await asyncio.sleep(_UPDATE_INTERVAL)

        drawing = asyncio.ensure_future(redraw())
        try:
            return await work()
        finally:
            drawing.cancel()
            await asyncio.wait([drawing])
            if table.begun.is_set():
                with suppress(BrokenPipeError):
                    update(table.rows(), table.title())


@contextmanager
def _reported_anyway(refs: Sequence[InstanceRef]) -> Iterator[None]:
    """Report running instances on stderr if the result cannot be written, as behind `| head`."""
    try:
        yield
    except OSError as error:
        if refs:
            note(f"Running, and billing: {', '.join(map(str, refs))}")
        if isinstance(error, BrokenPipeError):  # unlike a command that only reads, this has failed
            give_up_stdout()
            raise Exit(FAILED) from None
        raise
