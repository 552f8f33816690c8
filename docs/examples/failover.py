"""Failover over three plans: take the cheapest available plan, as the service decides and not a stale list.

A plan may be sold out between the list and the deploy. Then the launch tries the next, within the budget.
"""

from aiofluence import ContainerSpec, LaunchError, LaunchProgress, LaunchState, Session, Until, run


def show(step: LaunchProgress) -> None:
    if step.state is LaunchState.PROVISIONING:
        print(step.spec.name, "got plan", step.spec.plan_id)


async def main() -> None:
    async with Session() as fluence:
        first, *others = await fluence.plans.find(
            kind="container", min_memory="8Gi", gpu_count=1, max_hourly="2.00"
        )
        spec = ContainerSpec(
            name="job-{i}", plan_id=first.plan_id, image="ollama/ollama:0.6.5", expose=[11434]
        )
        try:
            report = await fluence.deploy_all_and_wait(
                spec.many(4),
                until=Until.READY,
                fallback=others[:2],
                max_hourly=8,
                min_ready=4,
                on_progress=show,
            )
        except LaunchError as error:
            print("not to be had at that price:", error.report)
            return
        print(report, "at", report.hourly_cost, "USDC an hour")
        for outcome in report.ready:
            assert outcome.ref is not None
            await fluence.terminate_and_wait(outcome.ref)


run(main())  # like asyncio.run; a closed terminal or SIGTERM cleans up like Ctrl-C
