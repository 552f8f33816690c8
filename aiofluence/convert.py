"""The one converter between JSON and models, strict where a guess would hide a mistake (cattrs).

Reads answers into models (`structure`), writes specs into bodies (`payload`). No I/O, no rules of
its own: the specs know theirs.
"""

from __future__ import annotations

import functools
import json
import marshal
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from types import GenericAlias
from typing import Any, Final, TypeVar, get_args, get_origin

import attrs
import cattrs
from cattrs.cols import list_structure_factory
from cattrs.gen import make_dict_structure_fn, override

from .errors import DecodeError, SpecError
from .models.catalog import ContainerPlan, MachineOption, Supply
from .models.instances import Container, ContainerSummary, ForwardedPort, Network, Resources
from .models.specs import ContainerSpec, RegistryCredentials, Spec, name_problems
from .models.updates import ContainerUpdate
from .models.values import Environment, Kind, OpenEnum, Port, Size
from .protocol import Answer, Json
from .readers import reader

T = TypeVar("T")

_REMEMBERED: Final = 512
"""Sizes, prices, GPUs come again and again, and are slow to make: this many of each are kept."""


class _MisfitError(Exception):
    """A value that does not fit; the message names types, never the value."""


def _exactly(*types: type) -> Callable[[Any, Any], Any]:
    """A hook that takes these types alone: cattrs itself would turn null into 'None' and 5 into '5'."""
    names = " or ".join(kind.__name__ for kind in types)

    def hook(value: Any, _: Any) -> Any:
        if type(value) in types:
            return value
        raise _MisfitError(f"expected {names}, got {_name(value)}")

    return hook


def _name(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def _enum(value: Any, kind: type[OpenEnum]) -> OpenEnum:
    if type(value) is not str:
        raise _MisfitError(f"expected str, got {_name(value)}")
    return kind(value)


_member = functools.lru_cache(_REMEMBERED)(_enum)


@functools.lru_cache(_REMEMBERED)
def _decimal_of(value: float) -> Decimal:
    # repr() of a float is the shortest text that means it: 0.1 becomes Decimal("0.1").
    return Decimal(repr(value))


def _decimal(value: Any, _: Any) -> Decimal:
    if type(value) in (float, int, str):
        try:
            amount = _decimal_of(value) if type(value) is float else Decimal(value)
        except InvalidOperation:
            raise _MisfitError("expected a number, got another text") from None
        if amount.is_finite():
            return amount
    raise _MisfitError(f"expected a number, got {_name(value)}")


def _datetime(value: Any, _: Any) -> datetime:
    if type(value) is not str:
        raise _MisfitError(f"expected an ISO 8601 time, got {_name(value)}")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise _MisfitError("expected an ISO 8601 time, got another text") from None
    if moment.tzinfo is UTC:
        return moment
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


_parsed_size = functools.lru_cache(_REMEMBERED)(Size.parse)
_size_of = functools.lru_cache(_REMEMBERED)(Size.of)


def _size(value: Any, _: Any) -> Size:
    try:
        if type(value) is str:
            return _parsed_size(value)
        if type(value) is dict:
            count, units = value.get("count"), value.get("units")
            if type(count) in (int, float) and type(units) is str:
                return _size_of(count, units)
    except ValueError:
        raise _MisfitError("expected a size with a known unit") from None
    raise _MisfitError(f"expected a size, got {_name(value)}")


def _count(value: Any, _: Any) -> int:
    count = value.get("count") if type(value) is dict else None
    if type(count) is int:
        return count
    raise _MisfitError(f"expected {{count}}, got {_name(value)}")


def _port_number(value: Any, _: Any) -> int:
    # Ports are texts on the wire; numbers are taken, too, since no guide promises either for answers.
    if (type(value) is str and value.isascii() and value.isdigit()) or type(value) is int:
        return int(value)
    raise _MisfitError(f"expected a port, got {_name(value)}")


def _environment(value: Any, _: Any) -> Environment:
    variables: dict[str, str] = {}
    for item in value if type(value) is list else [value] if value is not None else ():
        name, text = (item.get("name"), item.get("value")) if type(item) is dict else (None, None)
        if not isinstance(name, str) or not isinstance(text, str):
            raise _MisfitError("expected a list of {name, value}")
        variables[name] = text
    return Environment(variables)


def _array_hook(kind: Any, converter: cattrs.BaseConverter) -> Callable[[Any, Any], Any]:
    """Arrays only: cattrs itself would iterate over an object or a text."""
    sequence = get_origin(kind)
    item = get_args(kind)[0]
    items: Any = GenericAlias(list, item)
    one = converter.get_structure_hook(item)
    keep_index = list_structure_factory(items, converter) if converter.detailed_validation else None

    def hook(value: Any, _: Any) -> Any:
        if type(value) is list:
            found = keep_index(value, items) if keep_index else [one(each, item) for each in value]
            return found if sequence is list else tuple(found)
        if value is None and sequence is tuple:  # a field's absent array: some servers write null
            return ()
        raise _MisfitError(f"expected an array, got {_name(value)}")

    return hook


def _remembering(hook: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Gives the same object for the same JSON; only for what is public, for it is kept."""
    known: dict[bytes, Any] = {}

    def recall(value: Any, kind: Any) -> Any:
        key = marshal.dumps(value, 2)  # the fastest exact key there is: it tells 1 from true and 1.0
        found = known.get(key)
        if found is None:
            found = hook(value, kind)
            if len(known) < _REMEMBERED and len(key) < _REMEMBERED:
                known[key] = found
        return found

    return recall


def _is_array(kind: Any) -> bool:
    return get_origin(kind) in (list, tuple)


@functools.cache
def _converter(*, detailed: bool) -> cattrs.Converter:
    """Two alike: a quick one, and one that takes its time to say where a value did not fit."""
    converter = cattrs.Converter(detailed_validation=detailed, prefer_attrib_converters=False)
    converter.register_structure_hook(str, _exactly(str))
    converter.register_structure_hook(bool, _exactly(bool))
    converter.register_structure_hook(int, _exactly(int))
    converter.register_structure_hook(float, _exactly(int, float))
    converter.register_structure_hook(Decimal, _decimal)
    converter.register_structure_hook(datetime, _datetime)
    converter.register_structure_hook(Size, _size)
    converter.register_structure_hook(Environment, _environment)
    converter.register_structure_hook_factory(_is_array, _array_hook)

    # By class: cattrs would otherwise take a StrEnum for the str that it also is.
    converter.register_structure_hook(OpenEnum, _enum if detailed else _member)
    converter.register_structure_hook(Kind, _enum if detailed else _member)
    if not detailed:
        converter.register_structure_hook_factory(
            attrs.has, lambda model: reader(model, converter.get_structure_hook)
        )

    def register(model: type, **overrides: Any) -> Callable[[Any, Any], Any]:
        if not detailed:
            hook = reader(model, converter.get_structure_hook, **overrides)
        else:
            plain: Callable[[Any, Any], Any] = make_dict_structure_fn(model, converter, **overrides)

            def hook(value: Any, kind: Any) -> Any:
                if type(value) is not dict:
                    raise _MisfitError(f"expected an object, got {_name(value)}")
                return plain(value, kind)

        converter.register_structure_hook(model, hook)
        return hook

    number = override(struct_hook=_port_number)
    register(Port, number=override(rename="port", struct_hook=_port_number))
    register(ForwardedPort, port=number, external_port=number)
    register(Network)
    register(Supply, vcpu=override(struct_hook=_count))
    if not detailed:
        converter.register_structure_hook(Resources, _remembering(converter.get_structure_hook(Resources)))
        ports: Any = tuple[Port, ...]
        remembered = _remembering(converter.get_structure_hook(ports))
        converter.register_structure_hook_func(lambda kind: kind == ports, remembered)
    register(MachineOption, vcpu=override(struct_hook=_count))
    register(ContainerSummary, status=override(rename="instance_status"))
    register(Container, status=override(rename="instance_status"))
    plan = register(ContainerPlan)

    def container_plan(value: Any, kind: Any) -> ContainerPlan:
        """`{"plan": ..., "attributes": {"location": [...]}}` as one flat plan."""
        inner = value.get("plan") if type(value) is dict else None
        attributes = value.get("attributes") if type(value) is dict else None
        if type(inner) is not dict or type(attributes) is not dict:
            raise _MisfitError("expected {plan, attributes}")
        return plan({**inner, "locations": attributes.get("location")}, kind)  # type: ignore[no-any-return]

    converter.register_structure_hook(ContainerPlan, container_plan)
    return converter


_QUICK: Final = _converter(detailed=False)


def structure(answer: Answer, kind: type[T], *, under: Kind | None = None) -> T:
    """The value of `answer` as `kind`.

    Args:
        answer: what a call came to.
        kind: a model, or a list of one.
        under: for machines, the kind they were asked under: the wire does not repeat it.

    Raises:
        DecodeError: it does not fit; the message says where and how, without the value.
    """
    try:
        return _QUICK.structure(_under(answer.value, under), kind)
    except Exception:
        pass  # now that it is known not to fit, the time to find out where is well spent
    try:
        return _converter(detailed=True).structure(_under(answer.value, under), kind)
    except Exception as error:
        first = cattrs.transform_error(error, path="$", format_exception=_said)[0]
        problem, _, path = first.rpartition(" @ ")
    # Raised out here: cattrs' errors hold the values.
    raise DecodeError(f"{problem} at {path}", path=path, call=str(answer.call))


def _said(error: BaseException, _: Any) -> str:
    if isinstance(error, _MisfitError):
        return str(error)
    return "missing" if isinstance(error, KeyError) else "does not fit"


def _under(value: Json, kind: Kind | None) -> Json:
    if kind is None:
        return value
    if isinstance(value, list):
        return [_under(item, kind) for item in value]
    return {**value, "kind": kind.value} if isinstance(value, dict) else value


def check(specs: Sequence[Spec | ContainerUpdate]) -> None:
    """Refuse what the service would refuse, before the first of it is sent.

    Raises:
        SpecError: naming every problem of every spec, and every name that is given twice.
    """
    problems = [
        f"{spec.name if len(specs) > 1 else ''}{': ' if len(specs) > 1 else ''}{problem}"
        for spec in specs
        for problem in spec.problems()
    ]
    # The name is the key by which a lost deploy is found again: two of one name could not be told apart.
    names = Counter((type(spec), str(spec.name)) for spec in specs)
    problems += [
        f"name: {name!r} is given to {count} specs of one kind"
        for (_, name), count in names.items()
        if count > 1
    ]
    if problems:
        raise SpecError(problems)


def payload(spec: Spec | ContainerUpdate) -> bytes:
    """`spec` as the body the service wants.

    Raises:
        SpecError: the service would refuse it; all problems at once.
    """
    check([spec])
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
    """`value` as JSON; None when it cannot be written as that (an error would hold it)."""
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        return None


def rename_payload(name: str) -> bytes:
    """The body that renames a machine.

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
