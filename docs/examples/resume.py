"""Resume after a crash: run the program, kill it, and run it again. It continues with its instances.

`ensure` adopts the live instance of that name, or deploys one. The state of the program is the names and the
service. The journal has the deploys that were in flight when the process died.
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
        # the work; if the process is killed here too, the next run finds all instances
        for shard in shards:
            await fluence.terminate_and_wait(shard.result())
        print("done")


asyncio.run(main())
