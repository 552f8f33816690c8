"""All endpoints, one method each: `session.plans`, `.images`, `.containers`, `.vms`, `.baremetal`.

Every method is one call through the transport. Waits belong to `lifecycle`.
"""
