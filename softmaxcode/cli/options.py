"""Options of every command, declared once: the types, defaults and docstring of a function or dataclass.

Lists are written alike everywhere: values between commas, in several arguments or both, such as ``4:32,40`` or
``4:32 40``. ``a:b`` is every integer from a to b.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import io
import json
import sys
import types
import typing
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from cyclopts import App, Argument, CoercionError, CycloptsError, Parameter, Token
from cyclopts.exceptions import MissingArgumentError, UnknownCommandError, UnusedCliTokensError
from cyclopts.help import DefaultFormatter, PanelSpec
from docstring_parser import DocstringStyle, parse
from rich.box import Box
from rich.console import Console

from softmaxcode.checks.arguments import shown
from softmaxcode.storage.provenance import installed_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

#: No range has more values than this.
MAX_VALUES = 10**6
#: Around the panels of help: nothing.
NO_BOX = Box("    \n" * 8)

#: The file that a command writes.
Output = Annotated[str | None, Parameter(alias="-o", metavar="FILE")]
Force = Annotated[bool, Parameter(help="Replace a file that exists.")]


# Values


def _element(hint: Any) -> tuple[Any, bool, bool]:
    """The type of one value, whether there may be several, and whether a single value is no list."""
    union = isinstance(hint, types.UnionType) or get_origin(hint) is typing.Union
    parts = [part for part in (get_args(hint) if union else (hint,)) if part is not type(None)]
    lists = [part for part in parts if get_origin(part) in (tuple, list, collections.abc.Sequence)]
    if lists:
        return get_args(lists[0])[0], True, len(parts) > 1
    return parts[0], False, True


def read_values(kind: Any, text: str) -> list[Any]:
    """The values of a list that one argument contains.

    Parameters
    ----------
    kind : type
        ``int``, ``float``, ``str``, a ``Literal``, or ``tuple[int, int]`` for pairs K,d between spaces or semicolons.
    text : str
        The argument as the user wrote it.

    Returns
    -------
    list
        Of that kind.

    Raises
    ------
    ValueError
        With what is expected, to follow the name of the option.

    Examples
    --------
    >>> read_values(int, "3,4,8:10")
    [3, 4, 8, 9, 10]
    >>> read_values(tuple[int, int], "12,3; 24,3")
    [(12, 3), (24, 3)]
    """
    if get_origin(kind) is tuple:
        return [parse_pair(part) for part in text.replace(";", " ").split()]
    if kind is not int:
        return [read_value(kind, part) for part in text.split(",")]
    out: list[int] = []
    for part in text.split(","):
        first, between, last = part.partition(":")
        try:
            low, high = int(first), int(last if between else first)
        except ValueError:
            raise ValueError(f"takes integers and ranges such as 4:32 or 3,4,8:10; got {shown(text)}") from None
        if not 0 <= high - low < MAX_VALUES:
            wrong = "runs backwards" if high < low else f"has more than {MAX_VALUES:,} values"
            raise ValueError(f"takes ranges such as 4:32; {part!r} {wrong}")
        out.extend(range(low, high + 1))
    return out


def read_value(kind: Any, text: str) -> Any:
    """One value; raises a ValueError as `read_values` does."""
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ValueError(_not_among(get_args(kind), text))
        return text
    if get_origin(kind) is dict:
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ValueError(f"must be a JSON object; got {shown(text)}")
        return found
    try:
        return kind(text) if kind in (int, float) else text
    except ValueError:
        raise ValueError(f"must be {'an integer' if kind is int else 'a number'}; got {shown(text)}") from None


def _not_among(known: Iterable[str], text: str) -> str:
    return f"must be one of {', '.join(map(repr, known))}; got {shown(text)}"


def parse_pair(text: str) -> tuple[int, int]:
    """Read ``K,d``.

    Raises
    ------
    ValueError
        If it is no pair of integers.
    """
    try:
        K, d = (int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"takes pairs K,d such as 12,3; got {shown(text)}") from None
    return K, d


def _convert(hint: Any, tokens: Sequence[Token]) -> Any:
    """The value of an option, for cyclopts."""
    kind, several, one = _element(hint)
    if not several:
        return read_value(kind, tokens[0].value)
    values = [value for token in tokens for value in read_values(kind, token.value)]
    return values[0] if one and len(values) == 1 else tuple(values)


# Declarations


def takes(**sources: tuple[Any, ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command options that are declared elsewhere.

    An option that is not given is left out, so that its default stands in its declaration alone.

    Parameters
    ----------
    **sources
        For parameters of the command: a function or dataclass with a numpydoc docstring, and which of its parameters
        are options (by default all). The command gets those that were given as a dictionary. A parameter of the
        command without a type has type and description of the option of its name.

    Returns
    -------
    callable
        A decorator of the command.

    Examples
    --------
    >>> import softmaxcode as sc
    >>> @takes(options=(sc.solve, "K", "d", "starts", "seed"))
    ... def command(K, d, /, options, *, output: Output = None):
    ...     return K, d, options
    >>> [name for name in inspect.signature(command).parameters]
    ['K', 'd', 'starts', 'seed', 'output']
    >>> command(12, 3, seed=1)
    (12, 3, {'seed': 1})
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        groups = {name: parameters(*source) for name, source in sources.items()}
        declared = {name: parameter for group in groups.values() for name, parameter in group.items()}
        own = {name: one for name, one in inspect.signature(command).parameters.items() if name not in groups}
        typed = [name for name, one in own.items() if one.annotation is not one.empty]
        written = parameters(command, *typed) if typed else {}
        every = declared | {
            name: (declared | written)[name].replace(kind=one.kind, default=one.default) for name, one in own.items()
        }

        @functools.wraps(command)
        def called(*positional: Any, **given: Any) -> Any:
            parts = {
                name: {option: given.pop(option) for option in group if option in given and option not in own}
                for name, group in groups.items()
            }
            return command(*positional, **parts, **given)

        called.__annotations__ = {name: one.annotation for name, one in every.items()}
        called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            sorted(every.values(), key=lambda one: one.kind)
        )
        return called

    return decorate


def parameters(source: Any, *names: str) -> dict[str, inspect.Parameter]:
    """Parameters of a function, or fields of a dataclass, as options: by keyword, with their description.

    Parameters
    ----------
    source : callable
        Of a bound method, the docstring of its class describes them too.
    *names : str
        Which; by default all but ``**options``.

    Returns
    -------
    dict from str to Parameter
        In the order of the names.
    """
    found = inspect.signature(source).parameters
    chosen = names or [name for name, one in found.items() if one.kind is not one.VAR_KEYWORD]
    annotated = types.SimpleNamespace(__annotations__={name: found[name].annotation for name in chosen})
    known = {**vars(typing), **vars(sys.modules["pathlib"]), **vars(sys.modules[source.__module__])}
    hints = typing.get_type_hints(annotated, globalns=known, include_extras=True)
    described = {**_described(getattr(source, "__self__", None)), **_described(source)}
    return {
        name: found[name].replace(
            kind=inspect.Parameter.KEYWORD_ONLY,
            annotation=_option(hints[name], found[name].default, described.get(name)),
        )
        for name in chosen
    }


def _described(source: Any) -> dict[str, str]:
    """The descriptions of parameters in a numpydoc docstring."""
    text = parse(inspect.getdoc(source) or "", DocstringStyle.NUMPYDOC)
    return {
        name.strip(): " ".join((one.description or "").replace("`", "").split())
        for one in text.params
        for name in one.arg_name.split(",")
    }


def _option(hint: Any, default: Any, described: str | None) -> Any:
    """The type of an option with how it is written."""
    hint, *given = (hint.__origin__, *hint.__metadata__) if get_origin(hint) is Annotated else (hint,)
    kind, several, _ = _element(hint)
    named = {int: "INTEGER", float: "NUMBER", tuple[int, int]: "K,d", dict[str, Any]: "JSON"}
    more: dict[str, Any] = {"help": described} if described else {}
    if several:
        more |= {"n_tokens": -1}
    if kind is not bool:
        more |= {"metavar": named.get(kind, "NAME") + (" ..." if several else "")}
    if kind is bool and default is False:
        more |= {"negative": ()}
    return Annotated[(hint, Parameter(**more), *given)]


# The command line


def application(name: str, about: str, commands: Mapping[str, tuple[Any, str]]) -> App:
    """A command, or a group of commands, with our way of writing options and plain help.

    Parameters
    ----------
    name : str
        As it is called from a shell.
    about : str
        One sentence.
    commands : mapping from str to (str or callable, str)
        Each with its function, or "module:name" of it to import it when it is called, and one sentence.

    Returns
    -------
    cyclopts.App
        `execute` runs it.
    """
    app = App(
        name=name,
        help=about,
        help_format="plaintext",
        help_formatter=DefaultFormatter(panel_spec=PanelSpec(box=NO_BOX, padding=0)),
        version=lambda: f"softmaxcode {installed_version()}",
        version_format="plaintext",
        default_parameter=Parameter(
            accepts_keys=False,
            allow_repeating=True,
            consume_multiple=1,
            converter=_convert,
            name_transform=lambda parameter: parameter.removeprefix("n_").replace("_", "-"),
            negative_iterable=(),
            short_alias=lambda one, _: [f"-{one.name}"] if len(one.name) == 1 else None,
            show_default=_shown,
        ),
    )
    for number, (command, (function, sentence)) in enumerate(commands.items()):
        app.command(function, name=command, help=sentence, sort_key=number)
    return app


def _shown(default: Any) -> str | None:
    """A default as it is written on a command line; flags that are off need none."""
    if default is None or isinstance(default, bool):
        return None
    values = default if isinstance(default, tuple | list) else (default,)
    return " ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values) or None


def execute(app: App, arguments: Sequence[str] | None) -> int:
    """Run the command that was written; nothing is abbreviated.

    Parameters
    ----------
    app : cyclopts.App
        From `application`.
    arguments : sequence of str, optional
        By default those of this process.

    Returns
    -------
    int
        What the command returned; 0 for None.

    Raises
    ------
    ValueError
        If no command has such options: one sentence, and where help is.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        command, bound, _ = app.parse_args(given, exit_on_error=False, print_error=False)
    except ImportError as error:
        raise error.__cause__ or error from None  # from the module of a command: the cause names what is missing
    except CycloptsError as error:
        chain = error.command_chain or ()
        raise ValueError(f"{_sentence(error, given)} (see {' '.join([*app.name[:1], *chain])} --help)") from None
    if command.__name__ == "help_print" and not {"-h", "--help"} & set(given):
        names = [name for name in app.parse_commands(given)[1][-1] if not name.startswith("-")]
        raise ValueError(f"name what to do: {_either(names)} (see {' '.join([*app.name[:1], *given])} --help)")
    if "console" in bound.arguments:  # help or version: plain, also on a terminal
        text = io.StringIO()
        bound.arguments["console"] = Console(file=text)
        command(*bound.args, **bound.kwargs)
        print("\n".join(line.rstrip() for line in text.getvalue().rstrip().split("\n")))
        return 0
    return command(*bound.args, **bound.kwargs) or 0


def _either(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def _sentence(error: CycloptsError, given: list[str]) -> str:
    """What is wrong: what was received and what is expected."""
    option = ""
    if error.argument is not None:
        names = sorted(error.argument.names, key=len)
        option = error.argument.field_info.name if error.argument.field_info.is_positional else "/".join(names)
    match error:
        case UnknownCommandError(unused_tokens=[token, *_], app=app):
            assert app is not None
            return f"there is no command {shown(token)}; the commands are {_either(n for n in app if n[0] != '-')}"
        case UnusedCliTokensError(unused_tokens=[*tokens]):
            return f"unrecognized arguments: {' '.join(tokens)}"
        case MissingArgumentError(keyword=keyword):
            return f"{option} {'needs a value' if keyword else 'is required'}"
        case CycloptsError(msg=str(message)) if option:
            return f"{option} {message}"
        case CoercionError(argument=Argument() as argument, token=Token() as token) if known := argument.get_choices():
            return f"{option} {_not_among(known, token.value)}"
    return " ".join(str(error).split()).rstrip(".")
