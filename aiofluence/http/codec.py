"""Conversion between JSON and models with cattrs, strict where a guess would hide a mistake.

`structure` reads answers into models, and `payload` writes specs into bodies. No I/O. The rules for valid
specs belong to the specs.
"""

from __future__ import annotations

import functools
import json
import marshal
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from types import GenericAlias
from typing import Any, TypeVar, get_args, get_origin

import attrs
import cattrs
from cattrs.cols import list_structure_factory
from cattrs.gen import make_dict_structure_fn, override

from ..errors import DecodeError, SpecError
from ..models.instances import Billing, Container, ContainerSummary, ForwardedPort, Resources
from ..models.plans import ContainerPlan, MachineOption, Pricing
from ..models.specs import ContainerSpec, RegistryCredentials, Spec, is_complete, name_problems
from ..models.updates import ContainerUpdate
from ..models.values import Environment, Kind, OpenEnum, Port, Size, Supply
from . import readers
from .messages import Answer, Call, Json
from .readers import Hook

T = TypeVar("T")

_member = functools.lru_cache(readers.REMEMBERED)(readers.member)


def _array_hook(kind: Any, converter: cattrs.BaseConverter) -> Hook:
    """Hook for arrays only: cattrs itself would also iterate over an object or a text."""
    sequence = get_origin(kind)
    item = get_args(kind)[0]
    items: Any = GenericAlias(list, item)
    one = converter.get_structure_hook(item)
    keep_index = list_structure_factory(items, converter) if converter.detailed_validation else None

    def hook(value: Any, _: Any) -> Any:
        if type(value) is list:
            found = keep_index(value, items) if keep_index else [one(each, item) for each in value]
            return found if sequence is list else tuple(found)
        if value is None:  # servers in Go write null for an empty array
            return [] if sequence is list else ()
        raise readers.MisfitError(f"expected an array, got {readers.name_of(value)}")

    return hook


def _object_hook(model: type, converter: cattrs.Converter, **overrides: Any) -> Hook:
    """Hook for objects only: cattrs itself would read a model without required fields from any text."""
    if not converter.detailed_validation:
        return readers.reader(model, converter.get_structure_hook, **overrides)
    plain: Hook = make_dict_structure_fn(model, converter, **overrides)

    def hook(value: Any, kind: Any) -> Any:
        if type(value) is dict:
            return plain(value, kind)
        raise readers.MisfitError(f"expected an object, got {readers.name_of(value)}")

    return hook


def _remembering(hook: Hook) -> Hook:
    """Cache the results of a hook by JSON value. Only for public data, because the cache keeps it."""
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


def _is_array(kind: Any) -> bool:
    return get_origin(kind) in (list, tuple)


@functools.cache
def _converter(*, detailed: bool) -> cattrs.Converter:
    """Create a converter on its first use. There are two: a quick one, and one that locates a misfit."""
    converter = cattrs.Converter(detailed_validation=detailed, prefer_attrib_converters=False)
    converter.register_structure_hook(str, readers.exactly(str))
    converter.register_structure_hook(bool, readers.exactly(bool))
    converter.register_structure_hook(int, readers.integer)
    converter.register_structure_hook(float, readers.exactly(int, float))
    converter.register_structure_hook(Decimal, readers.money)
    converter.register_structure_hook(datetime, readers.moment)
    converter.register_structure_hook(Size, readers.size)
    converter.register_structure_hook(Environment, readers.environment)
    converter.register_structure_hook_factory(_is_array, _array_hook)

    # By class, because cattrs would otherwise treat a StrEnum as a str.
    converter.register_structure_hook(OpenEnum, readers.member if detailed else _member)
    converter.register_structure_hook(Kind, readers.member if detailed else _member)
    converter.register_structure_hook_factory(attrs.has, lambda model: _object_hook(model, converter))

    def register(model: type, **overrides: Any) -> None:
        converter.register_structure_hook(model, _object_hook(model, converter, **overrides))

    number = override(struct_hook=readers.port_number)
    price = override(struct_hook=readers.price)
    register(Port, number=override(rename="port", struct_hook=readers.port_number))
    register(ForwardedPort, port=number, external_port=number)
    register(Supply, vcpu=override(struct_hook=readers.count))
    if not detailed:
        converter.register_structure_hook(Resources, _remembering(converter.get_structure_hook(Resources)))
        ports: Any = tuple[Port, ...]
        remembered = _remembering(converter.get_structure_hook(ports))
        converter.register_structure_hook_func(lambda kind: kind == ports, remembered)
    register(Pricing, hour=price)
    register(Billing, hourly_usage=price)
    register(MachineOption, vcpu=override(struct_hook=readers.count))
    register(ContainerSummary, status=override(rename="instance_status"))
    register(Container, status=override(rename="instance_status"))
    plan = _object_hook(ContainerPlan, converter)

    def container_plan(value: Any, kind: Any) -> ContainerPlan:
        """Flatten `{"plan": ..., "attributes": {"location": [...]}}` into one plan."""
        inner = value.get("plan") if type(value) is dict else None
        attributes = value.get("attributes") if type(value) is dict else None
        if type(inner) is not dict or type(attributes) is not dict:
            raise readers.MisfitError("expected {plan, attributes}")
        return plan({**inner, "locations": attributes.get("location")}, kind)  # type: ignore[no-any-return]

    converter.register_structure_hook(ContainerPlan, container_plan)
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
        return _converter(detailed=False).structure(rows, many), []
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
        return _converter(detailed=False).structure(value, kind)
    except Exception:
        pass  # the slow, detailed converter is only needed for a value that does not fit
    try:
        return _converter(detailed=True).structure(value, kind)
    except Exception as error:
        first = cattrs.transform_error(error, path=path, format_exception=_describe)[0]
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
