"""Claims about the life of instances, and about money.

Tables only; `claim` defines the columns.
"""

from __future__ import annotations

from typing import Final

from .claim import Claim, assumed, documented, likely, unknown

_KUBERNETES: Final = "Kubernetes, on which Akash runs containers"
_AKASH: Final = "Akash's provider"
_SPHERON: Final = "Spheron, which resells the machines"
_EXAMPLES: Final = "guides: examples"

INSTANCES: Final[tuple[Claim, ...]] = (
    documented(
        "provisioning",
        "provisioning takes minutes, lognormal around a median",
        "page: After deployment",
        "Provisioning.median",
        "Provisioning.sigma",
    ),
    likely(
        "times",
        "a container is ACTIVE after 72 s, a VM after 119 s, a failed VM after 33 s; bare metal as VMs",
        "guides: examples, one of each",
        "Provisioning.machine_median",
        "Provisioning.failed_machine_median",
    ),
    assumed(
        "failure-rate",
        "share of provisionings that fail",
        "Provisioning.failure_rate",
        "Simulator.fail_next_provisioning",
    ),
    documented(
        "connection-later",
        "connection details come once an instance is active; a container's domain is null for "
        "a while even then",
        "page: After deployment; guides",
    ),
    assumed(
        "delays",
        "container started, network, domain: 4 s, 6 s and 21 s after ACTIVE",
        "Provisioning.start_delay",
        "Provisioning.network_delay",
        "Provisioning.domain_delay",
    ),
    documented(
        "detail-domain", "a detail has `domain` in its network alone", _EXAMPLES, "Profile.detail_domain"
    ),
    documented("newest-first", "a list begins with the newest instance", _EXAMPLES, "Profile.list_order"),
    documented("machine-ip", "a machine's `domain` is its IP", _EXAMPLES, "Profile.machine_address"),
    likely("early-ip", "the IP can be there before the machine is up", _SPHERON, "Profile.machine_address"),
    likely(
        "login-users",
        "the SSH user of a machine differs by provider: `ubuntu`, `user`",
        "guides; " + _SPHERON,
        "Profile.login_by",
    ),
    documented("container-root", "containers are reached as `root`; no answer names the user", "guides"),
    assumed(
        "ports",
        "`forwarded_ports` has all ports but the one with `http`, which is behind `uri`; `uri` comes with "
        "the domain",
    ),
    documented(
        "secrets-shown",
        "the detail never shows credentials, and shows the SSH key as the variable `SSH_PUBKEY`",
        "guides",
    ),
    documented(
        "terminate",
        "only ACTIVE instances can be terminated; what was not used is refunded",
        "page: Terminate",
    ),
    likely(
        "minimum-runtime",
        "DELETE of a machine is refused for 20 minutes after ACTIVE: 400 `Minimum runtime not met`",
        _SPHERON + " (sure); that it is passed on: 60 %",
        "Profile.minimum_runtime",
    ),
    assumed(
        "minimum-text",
        "that refusal names the minutes left",
        "Profile.minimum_runtime_text",
        source=_SPHERON + ": its API has them",
    ),
    assumed("terminate-at-once", "an instance has ENDED and is refunded before the 204 is sent"),
    documented("machine-names-change", "machines can only be renamed", "page: VM and bare metal updates"),
    assumed("rename-when", "a machine may be renamed while INITIALIZED or ACTIVE, with effect at once"),
    assumed("history", "ended instances stay in lists and details for ever"),
    assumed(
        "failed-detail",
        "a failed machine is FAILED in its detail too; one published pair shows FAILED in the list "
        "and ENDED in the detail",
        "Profile.failed_machine_detail",
        source="guides: examples, perhaps by mistake",
    ),
    assumed("list-lag", "a new instance is in the list at once", "Simulator.list_lag"),
    assumed("any-place", "without a place one of the plan's is drawn by seed"),
    assumed("updated-at", "`updated_at` moves with everything the detail shows, except money"),
    assumed(
        "after-the-end",
        "after the end `network`, `domain` and `ssh_connection` are null, a container is NOT_STARTED",
        source=_EXAMPLES + " (of the ACTIVE and ENDED states)",
    ),
    unknown("other-statuses", "statuses other than INITIALIZED, ACTIVE, FAILED, ENDED"),
    unknown("maintenance", "an ACTIVE machine that dies by itself; maintenance"),
)

RESTARTS: Final[tuple[Claim, ...]] = (
    likely(
        "restarts",
        "a command that exits is started again: same pod, log begins anew, rent goes on",
        _KUBERNETES + ", 85 %",
        "Profile.restarts",
    ),
    likely(
        "backoff",
        "the first restart comes at once, the next after 10 s, then twice as late each time up to 5 min",
        _KUBERNETES,
        "Profile.restarts",
    ),
    likely(
        "lease",
        "a container that is unavailable for 41 checks of 4 to 19 s (about 8 min) has its lease closed: ENDED",
        _AKASH + ", 85 %",
        "Profile.lease_checks",
    ),
    likely(
        "images-exit",
        "an image whose command is a shell or an interpreter exits at once; the service's own images "
        "and servers stay",
        "the images' own commands, 90 %",
        "Profile.images_exit",
        "Simulator.programs",
    ),
    assumed(
        "commands",
        "a startup command stays unless it is known to end, such as `nvidia-smi` or `sleep 5`",
        "Profile.images_exit",
        "Simulator.programs",
        source="a small table in `programs`",
    ),
    likely(
        "pull-fails",
        "an image that cannot be pulled: ACTIVE, never STARTED, and the lease closed in the end",
        _AKASH,
        "Simulator.programs",
        "Profile.restarts",
    ),
    likely("shell", "a startup command runs through a shell", "Akash's users, 70 %"),
    documented(
        "update",
        "an update replaces everything but the ports; a second one is refused while the first is applied; "
        "the detail shows the new configuration when it is done",
        "page: Update a container; guides",
    ),
    likely(
        "downtime",
        "an update takes the old pod down first: NOT_STARTED in between, network unchanged",
        _AKASH + ", 80 %",
        "Profile.update_downtime",
    ),
    assumed("update-time", "an update takes 20 s", "Provisioning.update_delay"),
    assumed("update-when", "a container can be updated while it is ACTIVE, in a crash loop too"),
    unknown("failed-update", "an update that fails as a whole"),
)

MONEY: Final[tuple[Claim, ...]] = (
    documented(
        "clock-hours",
        "rent by UTC clock hours; a deploy takes three hours, one spent and two reserved; the reserve "
        "is topped up",
        "guides: billing",
    ),
    documented("failure-refund", "a failed provisioning is refunded in full", "guides: billing"),
    documented(
        "cents",
        "amounts in answers are rounded to cents while prices are finer",
        _EXAMPLES,
        "Profile.rounded_amounts",
    ),
    documented(
        "one-hour-reserve",
        "the reserve is one hour for a while: here until the top-up, 10 minutes after the clock hour",
        _EXAMPLES,
        "Profile.top_up_delay",
    ),
    documented(
        "next-period",
        "`next_billing_period` is null unless ACTIVE, and has no microseconds",
        _EXAMPLES,
        "Profile.billing_period",
    ),
    documented(
        "usage-after-end",
        "after the end `hourly_usage` is 0 and `total_spendings` stays",
        _EXAMPLES,
        "Profile.hourly_usage_after_end",
    ),
    assumed("half-cents", "half a cent is rounded up", source="the one example that shows it"),
    assumed("initialized-rent", "an instance costs the same while INITIALIZED"),
    assumed(
        "empty-account",
        "an account that cannot top up lets the reserve be used up, hour by hour; the instance ends at "
        "the clock hour that nothing is left for",
        "Simulator.set_balance",
        source="guides: it ends when its paid hour does",
    ),
    assumed("money-arrives", "money that arrives meanwhile fills the reserve at the next top-up"),
    assumed("empty-while-initialized", "the account is empty while INITIALIZED: FAILED, refunded in full"),
    assumed("paid-hour", "termination within a paid hour: that hour is spent, the reserve comes back"),
)
