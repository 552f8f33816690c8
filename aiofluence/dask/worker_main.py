"""What runs in a worker's container: asks the scheduler where the container is reached, and is its worker.

Only its text is used: it goes to the container in a variable, where there is no aiofluence. So it imports
nothing of ours, and nothing of ours imports it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal

from distributed import Security, Worker, rpc


async def main() -> None:
    """Run the worker until the scheduler lets it go."""
    told = json.loads(os.environ["FLUENCE_WORKER"])
    security = Security(**told["security"])
    # The forwarded port is known only after this container has started, and a worker must know it when it
    # registers. The answer comes as soon as there is one.
    async with rpc(told["scheduler"], connection_args=security.get_connection_args("worker")) as scheduler:
        contact = await scheduler.fluence_contact(name=told["name"])
    async with Worker(
        told["scheduler"],
        name=told["name"],
        host="127.0.0.1" if "://127.0.0.1:" in contact else "0.0.0.0",
        # The simulator has one address for all containers, so it says which port is ours.
        port=int(os.environ.get(f"PORT_{told['port']}", told["port"])),
        protocol=contact.partition("://")[0],
        contact_address=contact,
        security=security,
        **{"dashboard_address": "127.0.0.1:0", **told["options"]},
    ) as worker:
        await worker.finished()


if __name__ == "__main__":
    # The first process of a container would ignore SIGTERM.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    asyncio.run(main())
