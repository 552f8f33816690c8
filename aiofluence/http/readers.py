"""Generator of functions that make a model from JSON, like handwritten code without a loop.

Only the quick converter uses these functions. When a function raises, the detailed converter names the
problem. No I/O.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias, get_args, get_origin

import attrs

Hook: TypeAlias = Callable[[Any, Any], Any]
"""Function that makes a value of a type (the second argument) from JSON, or raises."""

_AS_IT_COMES = (str, bool)
"""Types that JSON has already. The reader only checks for exactly this type."""
_MISSING = object()


def reader(model: type[Any], hook_for: Callable[[Any], Hook], **overrides: Any) -> Hook:
    """Generate a function from a JSON object to a `model`. Any exception means that the object does not fit.

    Args:
        model: an attrs class.
        hook_for: returns the converter's hook for a type.
        overrides: by field, cattrs' `override(rename=..., struct_hook=...)`.

    For `InstanceRef`, if the service returned one, the function would be

        lambda o, _: model(
            kind=hook_kind(o['kind'], type_kind),
            id=v if type(v := o['id']) is str else refuse(),
            name=v if type(v := o['name']) is str else refuse(),
        )

    cattrs would call a function for every text and number, and pass fields with a default as `**some`. For a
    container, that takes half as long again.
    """
    names: dict[str, Any] = {"model": model, "missing": _MISSING, "refuse": _refuse}
    attrs.resolve_types(model)
    arguments = []
    for field in attrs.fields(model):
        override = overrides.get(field.name)
        key = repr((override and override.rename) or field.name)
        hook = override and override.struct_hook
        kind = _without_none(field.type) if field.default is None else field.type
        if hook is None and kind in _AS_IT_COMES:
            made = f"v if type(v := {{}}) is {kind.__name__} else refuse()"
        else:
            names[f"type_{field.name}"] = kind
            names[f"hook_{field.name}"] = hook or hook_for(kind)
            made = f"hook_{field.name}({{}}, type_{field.name})"
        if field.default is attrs.NOTHING:
            value = made.format(f"o[{key}]")
        elif field.default is None:
            value = f"None if (w := o.get({key})) is None else {made.format('w')}"
        else:
            factory = isinstance(field.default, attrs.Factory)  # type: ignore[arg-type]
            names[f"default_{field.name}"] = field.default.factory if factory else field.default
            default = f"default_{field.name}{'()' if factory else ''}"
            value = f"{default} if (w := o.get({key}, missing)) is missing else {made.format('w')}"
        arguments.append(f"{field.name}={value}" if field.kw_only else value)
    made_by: Hook = eval(f"lambda o, _: model({', '.join(arguments)})", names)
    return made_by


def _without_none(kind: Any) -> Any:
    """Return `X` for `X | None`, and any other type unchanged."""
    if get_origin(kind) is types.UnionType:
        others = [each for each in get_args(kind) if each is not types.NoneType]
        if len(others) == 1:
            return others[0]
    return kind


def _refuse() -> NoReturn:
    raise TypeError
