"""Resume after a crash: run it, kill it, run it again. It goes on with what it had deployed.

`ensure` takes the live instance of that name, or deploys one; the names are the memory, and the service is
the only place that has to survive. The journal tells what was in flight when the process died.
"""

import asyncio

from aiofluence import ContainerSpec, Session, Until

SHARDS = 8


async def main() -> None:
    async with Session(journal="resume.journal") as fluence:
        offer = await fluence.plans.cheapest(kind="container", min_memory="8Gi")
        spec = ContainerSpec(
            name="shard-{i}", plan_id=offer.plan_id, image="ghcr.io/example/train:latest", expose=[6006]
        )
        async with asyncio.TaskGroup() as group:
            shards = [
                group.create_task(fluence.ensure(shard, until=Until.READY)) for shard in spec.many(SHARDS)
            ]
        print("all", len(shards), "are ready")
        # the work; killed here, too, the next run finds all of them
        for shard in shards:
            await fluence.terminate_and_wait(shard.result())
        print("done")


asyncio.run(main())
