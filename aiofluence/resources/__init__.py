"""One method per endpoint: `session.plans`, `.images`, `.containers`, `.vms`, `.baremetal`.

Every method is one call through the transport. Waits belong to `lifecycle`.
"""
