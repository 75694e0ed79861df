"""Options that commands share, which a command takes as one argument."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Parameter(NamedTuple):
    """An option as typer reads it: its annotation, and what it is where it is not given."""

    annotation: Any
    default: Any = None


def gathered(command: Callable[..., Any], name: str, parameters: Mapping[str, Parameter]) -> Callable[..., Any]:
    """The command with options in the place of its argument `name`.

    The command gets those that were given, or have a default, as a mapping under that name.
    """

    def merged(**arguments: Any) -> Any:
        given = {each: arguments.pop(each) for each in parameters}
        return command(**arguments, **{name: {each: value for each, value in given.items() if value is not None}})

    own = inspect.signature(command)
    together: list[inspect.Parameter] = []
    for parameter in own.parameters.values():
        if parameter.name != name:
            together.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        together += [
            inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for each, (annotation, default) in parameters.items()
        ]
    merged.__name__, merged.__doc__ = command.__name__, command.__doc__
    merged.__signature__ = own.replace(parameters=together)  # type: ignore[attr-defined]
    merged.__annotations__ = {parameter.name: parameter.annotation for parameter in together}
    return merged
