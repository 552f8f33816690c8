"""Claims about transport, keys, the catalogue, requests and their refusals.

Tables only. `claim` defines the columns.
"""

from __future__ import annotations

from typing import Final

from .claim import Claim, assumed, documented, unknown

HTTP: Final[tuple[Claim, ...]] = (
    documented(
        "paths",
        "paths, methods and trailing slashes; VMs and bare metal have the same answers",
        "page: Endpoints",
        probe="free:paths",
    ),
    documented(
        "fields",
        "fields, types and enum values of lists and details",
        "guides: examples",
        "AnswerOptions.edits",
        probe="free:shapes",
    ),
    unknown(
        "openapi",
        "the service's OpenAPI document: operations, fields, limits and rate limits",
        source="not public; the simulator has none",
        probe="free:openapi",
    ),
    documented(
        "no-pages",
        "a list has every instance that the account ever had; no pagination, no idempotency key",
        "guides",
        probe="free:pages",
    ),
    documented(
        "bearer",
        "`Authorization: Bearer` instead of `X-API-KEY`; in the simulator with the same secret",
        "newer guides",
        probe="free:keys",
    ),
    documented(
        "wrong-key",
        'a missing or wrong key: 403 with `{"error", "code": "forbidden"}`, before 404, 405 and 307; newer guides '
        "say 401",
        "page and guides contradict each other",
        "Profile.unauthorised_status",
        "AnswerOptions.key_refusal",
        probe="free:keys",
    ),
    documented(
        "malformed-key",
        "a malformed key header: 400; malformed means empty or not visible ASCII",
        "newer guides",
        "AnswerOptions.malformed_key_status",
        probe="free:keys",
    ),
    documented(
        "read-only-key",
        "a read-only key is refused by every GPU Cloud path, an expired key by every path; texts and statuses are assumed",
        "guides",
        "Simulator.key_state",
        probe="free:keys",
    ),
    assumed(
        "redirect",
        "a wrong trailing slash: 307 with a relative `Location`, the query kept",
        "AnswerOptions.redirect_status",
        probe="free:paths",
    ),
    assumed(
        "deploy-status",
        "a deploy is answered 201; any 2xx is permitted",
        "AnswerOptions.deploy_status",
        probe="refunded:failing-deploy",
    ),
    assumed(
        "not-found",
        "an unknown path or method: 404 and 405 with FastAPI's texts, because the 422 has FastAPI's form",
        "AnswerOptions.statuses",
        "AnswerOptions.texts",
        probe="free:paths",
    ),
    assumed(
        "unknown-id",
        "an id that is unknown, of another kind, or no UUID: 404 `Instance not found`",
        "AnswerOptions.statuses",
        "AnswerOptions.texts",
        probe="free:unknown-ids",
    ),
    assumed(
        "last-form",
        "`last` below 1 or not a number: 422",
        "AnswerOptions.bad_last",
        probe="free:unknown-ids",
    ),
    assumed(
        "unknown-fields",
        "unknown fields in bodies and queries are ignored; so is `expose` in an update",
        "AnswerOptions.extra_fields",
        probe="free:forms",
    ),
    assumed(
        "content-type",
        "the `Content-Type` of a request does not matter",
        "AnswerOptions.content_type",
        probe="free:forms",
    ),
    assumed(
        "date",
        "`Date` and `created_at` come from one clock",
        "AnswerOptions.date_ahead",
        probe="refunded:failing-deploy",
    ),
    unknown(
        "pace",
        "the real rate limit, per key or per address, and its headers; the simulator has none, or a token bucket "
        "that answers 429 or 503 before the key is checked",
        "Simulator.rate_limit",
        source="stated only in an OpenAPI document that is not public",
        probe="free:pace",
    ),
    unknown(
        "after-commit",
        "errors after a request took effect, and the longest delay of a deploy after a lost answer",
        "Simulator.fail",
        "Simulator.list_lag",
        source="a test can script it",
    ),
)

CATALOGUE: Final[tuple[Claim, ...]] = (
    documented(
        "plan-groups",
        "container plans are a flat array; machine plans are grouped by GPU model, then by count",
        "page: Browse plans",
        "AnswerOptions.edits",
        probe="free:shapes",
    ),
    documented(
        "places",
        "a container plan covers countries, and `constraints.location` picks one; a machine option has one location",
        "page: Browse plans; guides",
        probe="free:catalogue",
    ),
    documented(
        "free-text-places",
        "locations of machines are free text (`us-central-3`, `Finland 2`), providers are slugs, operating systems have "
        "names of their own; some plans have 1 CPU and 1 GiB",
        "guides: examples",
        "Profile.published_catalog",
        probe="free:catalogue",
    ),
    documented(
        "published-plans",
        "the plans in the guides are for sale with their ids and prices",
        "guides: examples",
        "Profile.published_catalog",
        probe="free:catalogue",
    ),
    documented(
        "plan-gone", "a plan without capacity: 400, and missing from the list", "page: Error responses"
    ),
    assumed(
        "capacity",
        "the number of instances that a plan may have at once; an ended instance no longer counts",
        "Profile.capacity",
        "Simulator.set_capacity",
        why_not="only a renter of a whole plan would see its capacity",
    ),
    assumed(
        "sold-out",
        "a plan that a test sells out is missing from the lists and refused",
        "Simulator.sell_out",
        why_not="about a switch of the simulator",
    ),
    assumed(
        "unknown-plan",
        "a plan id that never existed: 400, as for a plan that is sold out",
        "AnswerOptions.statuses",
        probe="free:forms",
    ),
    assumed(
        "minimum-price",
        "`minimum_price` is a number: USDC per hour",
        "AnswerOptions.edits",
        probe="free:shapes",
    ),
    unknown(
        "todays-prices",
        "present prices, models and locations: the catalogue is plausible, not current",
        "Simulator.catalog",
    ),
)

REQUESTS: Final[tuple[Claim, ...]] = (
    documented(
        "deploy-fields",
        "a container needs a plan, a name, an image and an exposed port; a machine a plan, a name, `ssh_key` and `os_image`",
        "page: Deploy instances",
        "AnswerOptions.unchecked",
        probe="free:rules",
    ),
    documented(
        "restrictions",
        "`http` only on port 80; at most 10 ports and 64 variables; registries `docker.io` and `ghcr.io`",
        "page: Restrictions",
        "AnswerOptions.unchecked",
        probe="free:rules",
    ),
    documented(
        "limits",
        "limits of names, images, commands, variable names and ports",
        "guides",
        "AnswerOptions.unchecked",
        probe="free:rules",
    ),
    documented(
        "reserved-variable",
        "a deploy with `SSH_PUBKEY` beside a key: the deployment fails and is refunded, or the request is refused",
        "page: Restrictions (the deployment); console's guide (the request)",
        "Profile.reserved_variable",
        probe="refunded:failing-deploy",
    ),
    documented(
        "os-image",
        "an `os_image` that is not offered: `Provided OS image … is not supported for the selected offer. Available OS "
        "images: …`",
        "guides: examples, verbatim",
        probe="refunded:os-image",
    ),
    documented(
        "texts",
        '`Port must be between 1 and 65535` (with `ctx: {"error": {}}`) and `Insufficient balance to deploy instance`',
        "page: Error responses, verbatim",
        probe="free:rules",
    ),
    documented(
        "error-forms",
        "a 422 is an array of objects, a 400 a plain string",
        "page: Error responses",
        probe="free:rules",
    ),
    assumed(
        "422-details",
        "`type`, `loc` and `msg` of other 422s are those of pydantic 2; all problems together, one per field",
        "AnswerOptions.problems",
        probe="free:rules",
    ),
    assumed(
        "400-texts",
        "`Plan is no longer available`, `Only ACTIVE instances can be terminated`, `Only ACTIVE instances can be "
        "updated`, `Instance update is already in progress`, `Plan is not available in location …`",
        "AnswerOptions.texts",
        probe="free:forms",
    ),
    assumed(
        "check-order",
        "order of the checks: form (422), id (404), plan, location or image, balance",
        "AnswerOptions.checks_first",
        probe="free:unknown-ids",
    ),
    assumed(
        "reserved-in-update",
        "an update with `SSH_PUBKEY` beside a key: 422 at the variable's name",
        probe="free:forms",
    ),
    assumed(
        "reserved-alone",
        "`SSH_PUBKEY` without a key is an ordinary variable",
        probe="free:forms",
    ),
    assumed(
        "machine-names",
        "names of machines follow the rule for names of containers",
        "AnswerOptions.unchecked",
        probe="free:rules",
    ),
    assumed(
        "same-names",
        "two instances of one name, two equal ports and two equal variables are allowed",
        probe="free:forms",
    ),
    assumed(
        "ssh-keys",
        "an SSH key is any text; for machines it must not be empty",
        "AnswerOptions.unchecked",
        probe="free:rules",
    ),
    assumed(
        "credentials",
        "the form of registry credentials is checked; the credentials always work",
        "AnswerOptions.unchecked",
        probe="free:rules",
    ),
    assumed(
        "countries",
        "a country code is two capital letters",
        "AnswerOptions.unchecked",
        probe="free:rules",
    ),
)

ACCOUNT: Final[tuple[Claim, ...]] = (
    documented(
        "balances",
        "`GET /v2/users/balances`: one row with amounts as decimal texts",
        "guides: billing",
        "AnswerOptions.edits",
        probe="free:shapes",
    ),
    assumed(
        "balance-fields",
        "`usage` is the spent amount, `estimatedUsage` the present rent per hour, `usageDaysLeft` the days "
        "that the balance lasts, or null without an instance",
        source="the guides name the fields only",
        probe="free:catalogue",
    ),
    assumed(
        "me",
        "`GET /v1/users/me` has `id`, `email` and `permissions`",
        "AnswerOptions.edits",
        source="the guides name `permissions` only",
        probe="free:shapes",
    ),
    unknown("several-accounts", "several accounts; changes made in the console"),
)
