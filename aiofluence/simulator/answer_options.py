"""Options of answers: statuses, texts, rules and fields in which the service may differ from the claims.

The defaults are the claims of docs/fidelity.md. `observed` sets the options from a file of observations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

import attrs


def _one_of(*values: str) -> Any:
    return attrs.validators.in_(values)


@attrs.frozen(kw_only=True)
class AnswerOptions:
    """Statuses, texts, rules and fields of answers.

    Attributes:
        malformed_key_status: status for a malformed key header.
        key_refusal: form of the refusal of a missing or wrong key: `{"error", "code"}` or `{"detail"}`.
        redirect_status: status for a wrong trailing slash. 404 sends no `Location`.
        deploy_status: status of an accepted deploy.
        statuses: statuses of refusals, by the text that the simulator would send.
        texts: texts of refusals, by the text that the simulator would send.
        unchecked: rules that are not enforced: place and type of the problem, such as
            `body.name string_too_long`. Rules for machines begin with the word `machine`.
        problems: `type`, `msg` and additional fields of the problems in a 422, by place and type.
        checks_first: the check of an update or rename that comes first: its form or its id.
        extra_fields: treatment of unknown fields in the body of a container deploy.
        content_type: treatment of another `Content-Type` than JSON in a deploy.
        bad_last: treatment of a `last` below 1 or not a number.
        edits: changes of documents, by operation and place: `missing field`, `unknown field number` or
            `type text`.
        early_logs: answer to a request for logs before the container is scheduled.
        late_events: events of an instance that is over.
        date_ahead: seconds by which `Date` is ahead of `created_at`.
    """

    malformed_key_status: int = 400
    key_refusal: Literal["error", "detail"] = attrs.field(
        default="error", validator=_one_of("error", "detail")
    )
    redirect_status: int = 307
    deploy_status: int = 201
    statuses: Mapping[str, Any] = attrs.field(factory=dict)
    texts: Mapping[str, Any] = attrs.field(factory=dict)
    unchecked: Mapping[str, Any] = attrs.field(factory=dict)
    problems: Mapping[str, Any] = attrs.field(factory=dict)
    checks_first: Literal["form", "id"] = attrs.field(default="form", validator=_one_of("form", "id"))
    extra_fields: Literal["ignored", "forbidden"] = attrs.field(
        default="ignored", validator=_one_of("ignored", "forbidden")
    )
    content_type: Literal["ignored", "required"] = attrs.field(
        default="ignored", validator=_one_of("ignored", "required")
    )
    bad_last: Literal["refused", "ignored"] = attrs.field(
        default="refused", validator=_one_of("refused", "ignored")
    )
    edits: Mapping[str, Any] = attrs.field(factory=dict)
    early_logs: Literal["empty", "error"] = attrs.field(default="empty", validator=_one_of("empty", "error"))
    late_events: Literal["kept", "gone"] = attrs.field(default="kept", validator=_one_of("kept", "gone"))
    date_ahead: float = 0.0

    def refusal(self, status: int, detail: Any) -> tuple[int, Any]:
        """Return status and `detail` of a refusal with these options."""
        if isinstance(detail, str):
            return self.statuses.get(detail, status), self.texts.get(detail, detail)
        return status, [self._problem(each) for each in detail]

    def _problem(self, problem: dict[str, Any]) -> dict[str, Any]:
        given = self.problems.get(problem_key(problem["loc"], problem["type"]))
        if given is None:
            return problem
        more = dict.fromkeys(given.get("more", ()), "")
        return problem | {name: given[name] for name in ("type", "msg") if given.get(name)} | more

    def edited(self, operation: str, body: bytes) -> bytes:
        """Return the body of an answer with the edits for its operation."""
        edits = [
            (place.rpartition(" ")[2], edit)
            for place, edit in self.edits.items()
            if place.rpartition(" ")[0] == operation
        ]
        if not edits:
            return body
        value = json.loads(body)
        for place, edit in edits:
            value = _edited(value, re.findall(r"[^.\[\]$]+|\[\]", place), edit)
        return json.dumps(value).encode()


def problem_key(loc: Any, kind: str) -> str:
    """Return place and type of a problem, without list indexes: `body.name string_too_long`."""
    return f"{'.'.join(part for part in loc if isinstance(part, str))} {kind}"


_SAMPLES: Mapping[str, Any] = {
    "object": {},
    "array": [],
    "text": "text",
    "boolean": True,
    "number": 1,
    "null": None,
}


def _edited(value: Any, path: list[str], edit: str) -> Any:
    if not path:
        kind = edit.rpartition(" ")[2]
        if kind == "text":
            return str(value)
        if kind == "number" and isinstance(value, str):
            return float(value) if re.fullmatch(r"-?\d+(\.\d+)?", value) else 1
        return _SAMPLES.get(kind, kind)
    name, *rest = path
    if name == "[]":
        return [_edited(item, rest, edit) for item in value] if isinstance(value, list) else value
    if not isinstance(value, dict):
        return value
    if not rest and edit == "missing field":
        return {key: inner for key, inner in value.items() if key != name}
    if not rest and edit.startswith("unknown field"):
        return value | {name: _SAMPLES.get(edit.rpartition(" ")[2])}
    return value | {name: _edited(value[name], rest, edit)} if name in value else value
