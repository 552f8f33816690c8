"""Conversion between JSON and models, strict where a guess would hide a mistake.

`structure` reads answers into models, and `payload` writes specs into bodies. No I/O. The rules for valid
specs belong to the specs.
"""

from __future__ import annotations

import functools
import json
import marshal
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, get_args, get_origin

import attrs

from ..errors import DecodeError, SpecError
from ..models.instances import Billing, Container, ContainerSummary, ForwardedPort, Resources
from ..models.plans import ContainerPlan, MachineOption, Pricing
from ..models.specs import ContainerSpec, RegistryCredentials, Spec, is_complete, name_problems
from ..models.updates import ContainerUpdate
from ..models.values import Environment, Kind, OpenEnum, Port, Size, Supply
from . import readers
from .messages import Answer, Call, Json
from .readers import Hook

if TYPE_CHECKING:  # imported for the first value that does not fit
    import cattrs

T = TypeVar("T")

_HOOKS: Final[Mapping[type, Hook]] = {
    str: readers.exactly(str),
    bool: readers.exactly(bool),
    int: readers.integer,
    float: readers.exactly(int, float),
    Decimal: readers.money,
    datetime: readers.moment,
    Size: readers.size,
    Environment: readers.environment,
}
_RENAMED: Final[Mapping[type, Mapping[str, str]]] = {
    Port: {"number": "port"},
    ContainerSummary: {"status": "instance_status"},
    Container: {"status": "instance_status"},
}
"""Names in JSON of the fields of a model, where they differ."""
_FIELD_HOOKS: Final[Mapping[type, Mapping[str, Hook]]] = {
    Port: {"number": readers.port_number},
    ForwardedPort: {"port": readers.port_number, "external_port": readers.port_number},
    Supply: {"vcpu": readers.count},
    Pricing: {"hour": readers.price},
    Billing: {"hourly_usage": readers.price},
    MachineOption: {"vcpu": readers.count},
}
"""Hooks of single fields, instead of the hooks of their types."""
_RECURRING: Final = (Resources, tuple[Port, ...])
"""Types of which the same few values recur. Public data, because a cache keeps them."""

_member = functools.lru_cache(readers.REMEMBERED)(readers.member)


def _array_hook(kind: Any, items: Callable[[list[Any]], list[Any]]) -> Hook:
    """Hook for arrays only: cattrs itself would also iterate over an object or a text."""
    sequence = get_origin(kind)

    def hook(value: Any, _: Any) -> Any:
        if type(value) is list:
            return items(value) if sequence is list else tuple(items(value))
        if value is None:  # servers in Go write null for an empty array
            return [] if sequence is list else ()
        raise readers.MisfitError(f"expected an array, got {readers.name_of(value)}")

    return hook


def _is_array(kind: Any) -> bool:
    return get_origin(kind) in (list, tuple)


def _plan_hook(plain: Hook) -> Hook:
    """Flatten `{"plan": ..., "attributes": {"location": [...]}}` into one plan."""

    def hook(value: Any, kind: Any) -> Any:
        inner = value.get("plan") if type(value) is dict else None
        attributes = value.get("attributes") if type(value) is dict else None
        if type(inner) is not dict or type(attributes) is not dict:
            raise readers.MisfitError("expected {plan, attributes}")
        return plain({**inner, "locations": attributes.get("location")}, kind)

    return hook


def _remembering(hook: Hook) -> Hook:
    """Cache the results of a hook by JSON value."""
    known: dict[bytes, Any] = {}

    def recall(value: Any, kind: Any) -> Any:
        key = marshal.dumps(value, 2)  # the fastest exact key: it distinguishes 1, true and 1.0
        found = known.get(key)
        if found is None:
            found = hook(value, kind)
            if len(known) < readers.REMEMBERED and len(key) < readers.REMEMBERED:
                known[key] = found
        return found

    return recall


@functools.cache
def _quick_hook(kind: Any) -> Hook:
    """Return the hook for values that fit. Any exception means that a value does not fit."""
    if kind in _HOOKS:
        return _HOOKS[kind]
    if _is_array(kind):
        item = get_args(kind)[0]
        one = _quick_hook(item)
        hook = _array_hook(kind, lambda value: [one(each, item) for each in value])
    elif attrs.has(kind):
        renamed, hooks = _RENAMED.get(kind, {}), _FIELD_HOOKS.get(kind, {})
        hook = readers.reader(kind, _quick_hook, renamed, hooks)
    else:
        assert issubclass(kind, OpenEnum | Kind), kind
        hook = _member
    if kind is ContainerPlan:
        hook = _plan_hook(hook)
    return _remembering(hook) if kind in _RECURRING else hook


@functools.cache
def _converter() -> cattrs.Converter:
    """Create the converter that locates a misfit. It is slow, and cattrs takes long to import."""
    import cattrs
    from cattrs.cols import list_structure_factory
    from cattrs.gen import make_dict_structure_fn, override

    converter = cattrs.Converter(detailed_validation=True, prefer_attrib_converters=False)

    def array_hook(kind: Any) -> Hook:
        items: Any = GenericAlias(list, get_args(kind)[0])
        keep_index = list_structure_factory(items, converter)
        return _array_hook(kind, lambda value: keep_index(value, items))

    def object_hook(model: type) -> Hook:
        names, hooks = _RENAMED.get(model, {}), _FIELD_HOOKS.get(model, {})
        overrides: Any = {
            field: override(rename=names.get(field), struct_hook=hooks.get(field))
            for field in {*names, *hooks}
        }
        plain: Any = make_dict_structure_fn(model, converter, **overrides)

        def hook(value: Any, kind: Any) -> Any:
            if type(value) is dict:  # cattrs itself would read a model without required fields from any text
                return plain(value, kind)
            raise readers.MisfitError(f"expected an object, got {readers.name_of(value)}")

        return _plan_hook(hook) if model is ContainerPlan else hook

    converter.register_structure_hook_factory(_is_array, array_hook)
    converter.register_structure_hook_factory(attrs.has, object_hook)
    for kind, hook in _HOOKS.items():
        converter.register_structure_hook(kind, hook)
    for enum in (OpenEnum, Kind):  # by class, because cattrs would otherwise treat a StrEnum as a str
        converter.register_structure_hook(enum, readers.member)
    return converter


def structure(answer: Answer, kind: type[T], *, under: Kind | None = None) -> T:
    """Convert the value of `answer` to `kind`.

    Args:
        answer: the decoded answer of a call.
        kind: a model, or a list of one model.
        under: for machines, the kind of the endpoint, which the reply does not repeat.

    Raises:
        DecodeError: the value does not fit. The message names the place and the problem, not the value.
    """
    made = _convert(_add_kind(answer.value, under), kind, "$", answer.call)
    if isinstance(made, DecodeError):
        raise made  # here, where no variable in the traceback holds the value
    return made


def structure_rows(
    answer: Answer,
    item: type[T],
    *,
    under: Kind | None = None,
    field: str | None = None,
    nested: Collection[str] = (),
) -> tuple[list[T], list[DecodeError]]:
    """Convert the items of an array to `item`, and return an error for each row that does not fit.

    Args:
        answer: decoded answer of a call; null counts as an empty array.
        item: model of one row.
        under: for machines, the kind of the endpoint, which the reply does not repeat.
        field: name of the field that holds the array; None when the array is the whole answer.
        nested: names of fields of the model, at any depth, whose items are also rows.

    Raises:
        DecodeError: the answer holds no array there.
    """
    path = "$" if field is None else f"$.{field}"
    rows = _rows_of(answer.value, field)
    if rows is None:
        raise DecodeError(f"expected an array at {path}", path=path, call=str(answer.call))
    rows = _add_kind(rows, under)
    many: Any = GenericAlias(list, item)
    try:
        return _quick_hook(many)(rows, many), []
    except Exception:
        pass  # each row is now converted separately
    errors: list[DecodeError] = []
    good = [made for _, made in _fitting(rows, item, path, answer.call, nested, errors)]
    return good, errors


def _rows_of(value: Json, field: str | None) -> list[Any] | None:
    """Return the array in `value`, or an empty one for null; None when there is no array."""
    if field is not None:
        if type(value) is not dict or field not in value:
            return None
        value = value[field]
    return [] if value is None else value if type(value) is list else None


def _fitting(
    rows: list[Any], item: type[T], path: str, call: Call, nested: Collection[str], errors: list[DecodeError]
) -> Iterator[tuple[Any, T]]:
    """Iterate over rows that fit, as JSON without misfit nested rows and as model. `errors` gets misfits."""
    for place, given in enumerate(rows):
        here, row = f"{path}[{place}]", given
        for name in nested if type(row) is dict else ():
            inner = getattr(attrs.fields_dict(item).get(name), "type", None) if attrs.has(item) else None
            if inner is not None and type(row.get(name)) is list:
                parts = _fitting(row[name], get_args(inner)[0], f"{here}.{name}", call, nested, errors)
                row = {**row, name: [part for part, _ in parts]}
        made = _convert(row, item, here, call)
        if isinstance(made, DecodeError):
            errors.append(made)
        else:
            yield row, made


def _convert(value: Json, kind: type[T], path: str, call: Call) -> T | DecodeError:
    """Convert `value` at `path` in the answer to `call`, or return (not raise) the error."""
    try:
        quick: T = _quick_hook(cast(Hashable, kind))(value, kind)
        return quick
    except Exception:
        pass  # the slow converter is only needed for a value that does not fit
    try:
        return _converter().structure(value, kind)
    except Exception as error:
        from cattrs import transform_error

        first = transform_error(error, path=path, format_exception=_describe)[0]
    problem, _, where = first.rpartition(" @ ")
    return DecodeError(f"{problem} at {where}", path=where, call=str(call))


def _describe(error: BaseException, _: Any) -> str:
    if isinstance(error, readers.MisfitError):
        return str(error)
    return "missing" if isinstance(error, KeyError) else "does not fit"


def _add_kind(value: Json, kind: Kind | None) -> Json:
    if kind is None:
        return value
    if type(value) is list:
        return [{**row, "kind": kind.value} if type(row) is dict else row for row in value]
    return {**value, "kind": kind.value} if type(value) is dict else value


def check(specs: Sequence[Spec | ContainerUpdate]) -> None:
    """Refuse specs that the service would refuse, before any is sent.

    Raises:
        SpecError: names every problem of every spec, and every name that is given twice.
    """
    problems = [
        f"{spec.name if len(specs) > 1 else ''}{': ' if len(specs) > 1 else ''}{problem}"
        for spec in specs
        for problem in spec.problems()
    ]
    # A lost deploy is found by its name, so two deploys of one name could not be distinguished.
    names = Counter((type(spec), str(spec.name)) for spec in specs)
    problems += [
        f"name: {name!r} is given to {count} specs of one kind"
        for (_, name), count in names.items()
        if count > 1
    ]
    if problems:
        raise SpecError(problems)


def payload(spec: Spec | ContainerUpdate) -> bytes:
    """Encode `spec` as the body that the service expects.

    Raises:
        SpecError: the service would refuse the spec; names all problems.
    """
    check([spec])
    if not (isinstance(spec, ContainerUpdate) or is_complete(spec)):
        raise SpecError(["plan_id: this request needs it, and an os_image for a machine"])
    if isinstance(spec, ContainerSpec):
        body = {
            "plan_id": spec.plan_id,
            "name": spec.name,
            "container_settings": {
                "image": spec.image,
                "expose": [
                    {"port": str(port.number), "protocol": port.protocol.value} for port in spec.expose
                ],
                **_settings(spec),
            },
            "constraints": {"location": spec.location} if spec.location else None,
            "ssh_key": spec.ssh_key,
        }
    elif isinstance(spec, ContainerUpdate):
        body = {
            "name": spec.name,
            "container_settings": {"image": spec.image, **_settings(spec)},
            "ssh_key": spec.ssh_key,
        }
    else:
        body = {
            "plan_id": spec.plan_id,
            "name": spec.name,
            "ssh_key": spec.ssh_key,
            "os_image": spec.os_image,
        }
    return json.dumps(_without_none(body)).encode()


def encode(value: Json) -> bytes | None:
    """Encode `value` as JSON; return None if that is impossible (an error would hold the value)."""
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        return None


def rename_payload(name: str) -> bytes:
    """Encode the body of a request that renames a machine.

    Raises:
        SpecError: the service would refuse the name.
    """
    problems = list(name_problems(name))
    if problems:
        raise SpecError(problems)
    return json.dumps({"name": name}).encode()


def _settings(spec: ContainerSpec | ContainerUpdate) -> dict[str, Any]:
    credentials: RegistryCredentials | None = spec.credentials
    return {
        "environment": [{"name": name, "value": value} for name, value in spec.environment.items()] or None,
        "startup_command": spec.startup_command,
        "credentials": credentials
        and {"host": credentials.host, "username": credentials.username, "password": credentials.password},
    }


def _without_none(value: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_none(item) if isinstance(item, dict) else item
        for name, item in value.items()
        if item is not None
    }
