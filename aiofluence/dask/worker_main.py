"""The program in a worker's container: asks the scheduler for the container's address, and runs a worker.

Only the text of this module is used. A variable passes it to the container, which has no aiofluence. So it
imports nothing from the library, and the library does not import it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal

from distributed import Security, Worker, rpc


async def main() -> None:
    """Run the worker until the scheduler releases it."""
    told = json.loads(os.environ["FLUENCE_WORKER"])
    security = Security(**told["security"])
    # A worker must know the forwarded port when it registers, and the port is known only after the container
    # has started. The scheduler answers as soon as there is one.
    async with rpc(told["scheduler"], connection_args=security.get_connection_args("worker")) as scheduler:
        contact = await scheduler.fluence_contact(name=told["name"])
    async with Worker(
        told["scheduler"],
        name=told["name"],
        host="127.0.0.1" if "://127.0.0.1:" in contact else "0.0.0.0",
        # All containers of the simulator share one address, so it passes the port of this container.
        port=int(os.environ.get(f"PORT_{told['port']}", told["port"])),
        protocol=contact.partition("://")[0],
        contact_address=contact,
        security=security,
        **{"dashboard_address": "127.0.0.1:0", **told["options"]},
    ) as worker:
        await worker.finished()


if __name__ == "__main__":
    # Without a handler, the first process of a container would ignore SIGTERM.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    asyncio.run(main())
