"""A spot check of a plan: deploy a container, compare its output with the expected text, terminate.

The container is gone after the block, however the block ends: with a result, an error, a timeout or Ctrl-C.
"""

import asyncio

from aiofluence import ContainerSpec, LogLine, Session, Until, run, unique_name

EXPECTED = "CUDA 12"


async def main() -> None:
    async with Session() as fluence:
        offer = await fluence.plans.cheapest(kind="container", min_memory="8Gi", gpu_count=1)
        spec = ContainerSpec(
            name=unique_name("check"),
            plan_id=offer.plan_id,
            image="nvidia/cuda:12.4.1-base-ubuntu22.04",
            expose=[8000],
            startup_command="nvidia-smi && sleep infinity",
        )
        async with fluence.running(spec, until=Until.READY) as container:
            try:
                async with asyncio.timeout(120):
                    async for item in fluence.tail_logs(container):
                        if isinstance(item, LogLine) and EXPECTED in item.text:
                            print(offer.gpu_model.model, "passed:", item.text)
                            break
            except TimeoutError:
                print(offer.gpu_model.model, "said nothing of", EXPECTED)
        ended = await fluence.containers.get(container.id)
        print(ended.status, "spent:", ended.billing.total_spendings, "USDC")


run(main())  # like asyncio.run; a closed terminal or SIGTERM cleans up like Ctrl-C
