"""A hyper-parameter sweep: fifty containers, one learning rate each. It prints the best and ends them all.

Each container prints its progress. The result of a trial is the last loss in its log.
"""

import asyncio
import re

import attrs

from aiofluence import ContainerSpec, LogLine, Session, Until, run

TRIALS = 50
STEPS = 20  # reports per trial to wait for


async def main() -> None:
    async with Session() as fluence:
        offer = await fluence.plans.cheapest(kind="container", min_memory="8Gi", max_hourly="1.00")
        trial = ContainerSpec(
            name="sweep-{i:02}", plan_id=offer.plan_id, image="ghcr.io/example/train:latest", expose=[6006]
        )
        specs = [
            attrs.evolve(spec, environment={"LEARNING_RATE": f"{1e-5 * 1.2**number:.2e}"})
            for number, spec in enumerate(trial.many(TRIALS))
        ]
        report = await fluence.deploy_all_and_wait(specs, until=Until.READY, min_ready=45, max_hourly=60)
        try:
            losses: dict[str, float] = {}
            reports = dict.fromkeys((instance.name for instance in report.instances), 0)
            async for tagged in fluence.tail_all(report.instances):
                if not isinstance(tagged.line, LogLine):
                    print(tagged.ref.name, tagged.line)  # a gap: some reports may be missing
                elif found := re.search(r"loss (\d+\.\d+)", tagged.line.text):
                    losses[tagged.ref.name] = float(found[1])
                    reports[tagged.ref.name] += 1
                    if min(reports.values()) >= STEPS:
                        break
        finally:
            async with asyncio.TaskGroup() as group:
                for instance in report.instances:
                    group.create_task(fluence.terminate_and_wait(instance))
        best = min(losses, key=losses.__getitem__)
        settings = next(spec.environment for spec in specs if spec.name == best)
        print(f"{len(losses)} trials; best: {best}, loss {losses[best]}, rate {settings['LEARNING_RATE']}")


run(main())  # like asyncio.run; a closed terminal or SIGTERM cleans up like Ctrl-C
