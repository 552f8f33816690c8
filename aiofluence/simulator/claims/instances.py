"""Claims about the life of instances and about money.

Tables only. `claim` defines the columns.
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
        probe="paid:container",
    ),
    likely(
        "times",
        "a container is ACTIVE after 72 s, a VM after 119 s, a failed VM after 33 s; bare metal as VMs",
        "guides: examples, one of each",
        "Provisioning.machine_median",
        "Provisioning.failed_machine_median",
        probe="paid:container",
    ),
    assumed(
        "failure-rate",
        "share of provisionings that fail",
        "Provisioning.failure_rate",
        "Simulator.fail_next_provisioning",
        probe="free:instances",
    ),
    documented(
        "connection-later",
        "connection details appear when an instance is ACTIVE; a container's domain is null for "
        "a while longer",
        "page: After deployment; guides",
        probe="paid:container",
    ),
    assumed(
        "delays",
        "a container is started 4 s, has its network 6 s and its domain 21 s after ACTIVE",
        "Provisioning.start_delay",
        "Provisioning.network_delay",
        "Provisioning.domain_delay",
        probe="paid:container",
    ),
    documented(
        "detail-domain",
        "a detail has `domain` only in its `network`",
        _EXAMPLES,
        "Profile.detail_domain",
        probe="free:instances",
    ),
    documented(
        "newest-first",
        "a list begins with the newest instance",
        _EXAMPLES,
        "Profile.list_order",
        probe="free:instances",
    ),
    documented(
        "machine-ip",
        "a machine's `domain` is its IP",
        _EXAMPLES,
        "Profile.machine_address",
        probe="free:access",
    ),
    likely(
        "early-ip",
        "the IP may be shown before the machine is ACTIVE",
        _SPHERON,
        "Profile.machine_address",
        probe="free:access",
    ),
    likely(
        "login-users",
        "the SSH user of a machine differs by provider: `ubuntu`, `user`",
        "guides; " + _SPHERON,
        "Profile.login_by",
        probe="free:access",
    ),
    documented(
        "container-root",
        "the SSH user of a container is `root`; no answer names the user",
        "guides",
        probe="free:access",
    ),
    assumed(
        "ports",
        "`forwarded_ports` has all ports except the `http` port, which `uri` leads to; `uri` and the "
        "domain appear together",
        probe="free:access",
    ),
    documented(
        "secrets-shown",
        "the detail never shows credentials, and shows the SSH key as the variable `SSH_PUBKEY`",
        "guides",
        probe="refunded:failing-deploy",
    ),
    documented(
        "terminate",
        "only ACTIVE instances can be terminated; the unused reserve is refunded",
        "page: Terminate",
        probe="refunded:failing-deploy",
    ),
    likely(
        "minimum-runtime",
        "DELETE of a machine is refused for 20 minutes after ACTIVE: 400 `Minimum runtime not met`",
        _SPHERON + " (certain); passed on by Fluence: 60 %",
        "Profile.minimum_runtime",
        why_not="the paid level rents a container, and only machines have a minimum runtime",
    ),
    assumed(
        "minimum-text",
        "the refusal of `minimum-runtime` names the minutes left",
        "Profile.minimum_runtime_text",
        source=_SPHERON + ": the API of Spheron names them",
        why_not="the paid level rents a container, and only machines have a minimum runtime",
    ),
    assumed(
        "terminate-at-once",
        "an instance has ENDED and is refunded before the 204 is sent",
        probe="paid:container",
    ),
    documented("machine-names-change", "machines can only be renamed", "page: VM and bare metal updates"),
    assumed(
        "rename-when",
        "a machine may be renamed while INITIALIZED or ACTIVE, with immediate effect",
        probe="free:access",
    ),
    assumed(
        "history",
        "ended instances stay in lists and details for ever",
        probe="free:instances",
    ),
    assumed(
        "failed-detail",
        "a failed machine is FAILED in its detail too; one published example shows FAILED in the list "
        "and ENDED in the detail",
        "Profile.failed_machine_detail",
        source="guides: examples, perhaps by mistake",
        probe="free:instances",
    ),
    assumed(
        "list-lag",
        "a new instance is in the list immediately",
        "Simulator.list_lag",
        probe="refunded:failing-deploy",
    ),
    assumed(
        "any-place",
        "a deploy without a location gets one of the plan's, drawn by the seed",
        probe="refunded:failing-deploy",
    ),
    assumed(
        "updated-at",
        "`updated_at` changes with every shown field of the detail, except amounts",
        probe="refunded:failing-deploy",
    ),
    assumed(
        "after-the-end",
        "after the end, `network`, `domain` and `ssh_connection` are null and a container is NOT_STARTED",
        source=_EXAMPLES + " (of the ACTIVE and ENDED states)",
        probe="free:instances",
    ),
    unknown(
        "other-statuses",
        "statuses other than INITIALIZED, ACTIVE, FAILED, ENDED",
        probe="free:shapes",
    ),
    unknown("maintenance", "an ACTIVE machine that fails by itself; maintenance"),
)

RESTARTS: Final[tuple[Claim, ...]] = (
    likely(
        "restarts",
        "a command that exits is started again: same pod, new log, rent continues",
        _KUBERNETES + ", 85 %",
        "Profile.restarts",
        probe="paid:container",
    ),
    likely(
        "backoff",
        "the first restart is immediate, the next after 10 s, then the delay doubles up to 5 min",
        _KUBERNETES,
        "Profile.restarts",
        probe="paid:container",
    ),
    likely(
        "lease",
        "after 41 failed checks, 4 to 19 s apart (about 8 min), a container's lease is closed: ENDED",
        _AKASH + ", 85 %",
        "Profile.lease_checks",
        why_not="the paid level ends its container by DELETE, before the lease would be closed",
    ),
    likely(
        "images-exit",
        "an image whose command is a shell or an interpreter exits immediately; the service's own images "
        "and servers stay",
        "the images' own commands, 90 %",
        "Profile.images_exit",
        "Simulator.programs",
        probe="paid:container",
    ),
    assumed(
        "commands",
        "a startup command runs on unless it is known to end, such as `nvidia-smi` or `sleep 5`",
        "Profile.images_exit",
        "Simulator.programs",
        source="a small table in `programs`",
        probe="paid:container",
    ),
    likely(
        "pull-fails",
        "a container with an image that cannot be pulled: ACTIVE, never STARTED, finally a closed lease",
        _AKASH,
        "Simulator.programs",
        "Profile.restarts",
        probe="paid:container",
    ),
    likely(
        "shell",
        "a startup command runs through a shell",
        "Akash's users, 70 %",
        probe="paid:container",
    ),
    documented(
        "update",
        "an update replaces everything except the ports; a second update is refused until the first is "
        "done; the detail shows the new configuration at the end of the update",
        "page: Update a container; guides",
        probe="paid:container",
    ),
    likely(
        "downtime",
        "an update stops the old pod first: NOT_STARTED in between, network unchanged",
        _AKASH + ", 80 %",
        "Profile.update_downtime",
        probe="paid:container",
    ),
    assumed(
        "update-time",
        "an update takes 20 s",
        "Provisioning.update_delay",
        probe="paid:container",
    ),
    assumed(
        "update-when",
        "a container can be updated while it is ACTIVE, even in a crash loop",
        probe="refunded:failing-deploy",
    ),
    unknown("failed-update", "an update that fails as a whole"),
)

MONEY: Final[tuple[Claim, ...]] = (
    documented(
        "clock-hours",
        "rent is charged by UTC clock hours; a deploy takes three hours, one spent and two reserved; the "
        "reserve is topped up",
        "guides: billing",
        probe="paid:container",
    ),
    documented(
        "failure-refund",
        "a failed provisioning is refunded in full",
        "guides: billing",
        probe="refunded:failing-deploy",
    ),
    documented(
        "cents",
        "amounts in answers are rounded to cents, although prices are finer",
        _EXAMPLES,
        "Profile.rounded_amounts",
        probe="free:bills",
    ),
    documented(
        "one-hour-reserve",
        "after a clock hour the reserve is one hour for a while: in the simulator 10 minutes, until the top-up",
        _EXAMPLES,
        "Profile.top_up_delay",
        probe="free:bills",
    ),
    documented(
        "next-period",
        "`next_billing_period` is null unless ACTIVE, and has no microseconds",
        _EXAMPLES,
        "Profile.billing_period",
        probe="free:bills",
    ),
    documented(
        "usage-after-end",
        "after the end `hourly_usage` is 0 and `total_spendings` stays",
        _EXAMPLES,
        "Profile.hourly_usage_after_end",
        probe="free:bills",
    ),
    assumed(
        "half-cents",
        "half a cent is rounded up",
        source="the only published example of half a cent",
        probe="free:bills",
    ),
    assumed(
        "initialized-rent",
        "an instance costs the same while INITIALIZED",
        probe="refunded:failing-deploy",
    ),
    assumed(
        "empty-account",
        "if the account cannot top up, the reserve is used hour by hour; the instance ends at the first "
        "clock hour that the reserve cannot pay",
        "Simulator.set_balance",
        source="guides: an instance ends with its paid hour",
        why_not="the account would have to be emptied",
    ),
    assumed(
        "money-arrives",
        "a deposit in the meantime fills the reserve at the next top-up",
        why_not="the account would have to be emptied",
    ),
    assumed(
        "empty-while-initialized",
        "an instance whose account is empty while INITIALIZED: FAILED, refunded in full",
        why_not="the account would have to be emptied",
    ),
    assumed(
        "paid-hour",
        "a termination within a paid hour: the hour is spent, the reserve is refunded",
        probe="paid:container",
    ),
)
